/* What kefud can be told. The mechanism is base/options.h's; here are the rows and their defaults. */
#ifndef KF_KEFUD_CONFIG_H
#define KF_KEFUD_CONFIG_H

#include "base/log.h"
#include "base/options.h"
#include "device/device.h"
#include "transport/connect.h"

typedef struct kf_kefud_config {
    kf_nats_opts nats;
    const char *models, *http, *trace, *file;
    int device, dtype, log_level;              /* indices: kf_device_names, kf_kefud_dtype, kf_log_level */
    int batch_invariant, cuda_graphs, decoder; /* 0 off, 1 on */
    int64_t threads, max_jobs, max_running, kv_cache_mb, max_tokens, deadline_ms, drain_s;
    double max_gap_ms;
    bool print_config, version, help;
} kf_kefud_config;

/* Reads command line, environment and file. `o` must outlive the config's texts: kf_options_free ends them.
 * The statuses of kf_options_parse, also for what is not of the form that it is read in: --nats…, --http. */
kf_status kf_kefud_config_read(int argc, char **argv, kf_options *o, kf_kefud_config *out);

bool kf_kefud_has_http(const kf_kefud_config *c); /* not --http off */

/* "auto" is what is faster on this device. */
kf_dtype kf_kefud_dtype(const kf_kefud_config *c);

#endif
