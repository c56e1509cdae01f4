/* A trace as a file: Chrome's trace event JSON, which ui.perfetto.dev and chrome://tracing open.
 *
 *     kf_trace_file *t;
 *     KF_TRY(kf_trace_file_open("kefu.json", &t));   // before the threads that record
 *     …
 *     kf_trace_file_close(t);                         // after them
 *
 * Records go into a ring of fixed size, without a lock; a thread of its own writes them out. What finds the ring full,
 * or comes after KF_TRACE_FILE_BYTES of file, is dropped and counted: the file's last event and the log say how many.
 * A process that is killed leaves a file without its last bracket; both viewers open that too.
 *
 * Format: "Trace Event Format", Google 2016. Requests are nestable asynchronous events ("b", "e"), runs and passes
 * complete events ("X"); ts and dur are microseconds of the monotonic clock.
 */
#ifndef KF_OBSERVE_TRACE_FILE_H
#define KF_OBSERVE_TRACE_FILE_H

#include "base/status.h"

#define KF_TRACE_FILE_BYTES (INT64_C(256) << 20)

typedef struct kf_trace_file kf_trace_file;

/* Creates or empties the file, starts the thread and takes kf_trace_to. KF_ERR_IO: the file cannot be written, or no
 * thread; KF_ERR_NO_MEMORY. */
kf_status kf_trace_file_open(const char *path, kf_trace_file **out);

/* Writes what is left, ends the file and logs "trace_written". NULL is fine. */
void kf_trace_file_close(kf_trace_file *t);

#endif
