/* What the server tells a trace (base/trace.h). */
#ifndef KF_SERVE_TRACE_H
#define KF_SERVE_TRACE_H

#include "serve/server_internal.h"

/* A run of the device. timed: something was waited for; else nobody knows when it ended. The device thread. */
void kf_trace_run(const kf_work *w, int64_t cost_ns, int64_t begin_ns, int64_t end_ns, bool timed);

/* A request whose final has been published. Takes from the job's arena. The I/O thread. */
void kf_trace_request(kf_server *s, kf_job_impl *j);

#endif
