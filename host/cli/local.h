/* Models in this process: what tokenize, logits, generate, eval and diff share. No broker is needed.
 *
 *     typedef struct settings { kf_cli_common common; kf_local_opts local; … } settings;
 *     static const kf_option table[] = {KF_MODEL_OPTION(settings, local), KF_DEVICE_OPTIONS(settings, local),
 *                                       KF_INPUT_OPTIONS(settings, local), KF_CLI_OPTIONS(settings)};
 *     kf_local l;
 *     KF_TRY(kf_local_open(&s.local, &l));
 *     KF_TRY(kf_ids_read(&s.local, &ids));                  // from --text or --ids
 *     …
 *     kf_ids_free(&ids);
 *     kf_local_close(&l);
 */
#ifndef KF_CLI_LOCAL_H
#define KF_CLI_LOCAL_H

#include "base/options.h"
#include "device/device.h"
#include "observe/trace_file.h"
#include "text/tokenizer.h"

typedef struct kf_local_opts {
    const char *model; /* a folder as Hugging Face saves it */
    int device, dtype; /* indices: kf_device_names, kf_dtype_names */
    int64_t threads;
    const char *text, *ids, *trace;
    bool chat; /* text is a customer's message: the input is the chat template's prompt for it */
    const char *system;
} kf_local_opts;

extern const char *const kf_dtype_names[]; /* "f32", "bf16", "auto", NULL */

#define KF_MODEL_OPTION(T, f)                                                                                          \
    KF_OPTION("model", KF_OPTION_TEXT, offsetof(T, f.model), "DIR", NULL, "a model's folder", .once = true)
#define KF_INPUT_OPTIONS(T, f)                                                                                         \
    KF_OPTION("text", KF_OPTION_TEXT, offsetof(T, f.text), "TEXT", NULL, "input; special tokens are added",            \
              .once = true),                                                                                           \
        KF_OPTION("ids", KF_OPTION_TEXT, offsetof(T, f.ids), "1,2,3", NULL, "input, taken as it stands", .once = true)
#define KF_CHAT_OPTIONS(T, f)                                                                                          \
    KF_OPTION("chat", KF_OPTION_FLAG, offsetof(T, f.chat), NULL, NULL,                                                 \
              "TEXT is a message: the input is the chat template's prompt", .once = true),                             \
        KF_OPTION("system", KF_OPTION_TEXT, offsetof(T, f.system), "TEXT", NULL, "with --chat: the system's message",  \
                  .once = true)
#define KF_DEVICE_OPTIONS(T, f)                                                                                        \
    KF_OPTION("device", KF_OPTION_CHOICE, offsetof(T, f.device), "NAME", "cpu", "cpu, cuda or null",                   \
              .choices = kf_device_names),                                                                             \
        KF_OPTION("dtype", KF_OPTION_CHOICE, offsetof(T, f.dtype), "FORMAT", "f32", "of the weights: f32, bf16, auto", \
                  .choices = kf_dtype_names),                                                                          \
        KF_OPTION("threads", KF_OPTION_INT, offsetof(T, f.threads), "N", "0", "of the cpu device; 0: every core",      \
                  .max = 1024),                                                                                        \
        KF_OPTION("trace", KF_OPTION_TEXT, offsetof(T, f.trace), "FILE", NULL, "of the passes, for ui.perfetto.dev")

typedef struct kf_local {
    kf_device *device;
    kf_stream *stream;
    kf_trace_file *trace;
} kf_local;

/* What a command line lacks that must name a model and one input, for kf_cli_usage; NULL: nothing. */
const char *kf_local_lacks(const kf_local_opts *o);

const char *kf_ids_lacks(const char *list); /* of --ids alone, as above; NULL is no list and lacks nothing */

/* The statuses of kf_device_open. */
kf_status kf_local_open(const kf_local_opts *o, kf_local *out);
void kf_local_close(kf_local *l); /* models on it must have been closed */

typedef struct kf_ids {
    int32_t *ids, *start, *end; /* [n]; start and end: code points of the text, 0 for ids that were given */
    size_t n;
    char *prompt;            /* with --chat: the text that start and end count in; else NULL */
    kf_tokenizer *tokenizer; /* the model's; NULL where ids were given and the folder has none that we know */
} kf_ids;

/* Exactly one of --text and --ids. KF_ERR_INVALID: it is missing, or the text names what is wrong with it; the
 * tokenizer's statuses. */
kf_status kf_ids_read(const kf_local_opts *o, kf_ids *out);

/* The same for a model to read: KF_ERR_INVALID also where there is no token at all. */
kf_status kf_ids_read_some(const kf_local_opts *o, kf_ids *out);
void kf_ids_free(kf_ids *ids);

/* A token for people, valid until the next call: as the tokenizer's file spells it ("##ing"), or "#17" where there is
 * no tokenizer; and as the text that it stands for, which is what tells a byte-level BPE's pieces apart ("我" for
 * "æĪĳ"). */
const char *kf_ids_piece(const kf_tokenizer *t, int32_t id);
const char *kf_ids_text(const kf_tokenizer *t, int32_t id);

#endif
