/* Heads on a trunk: reading DIR/heads, stacking what can be stacked, and the pass over all of them. */
#include "model/heads.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { HEADS_MAX = KF_LINEAR_PARTS_MAX, HEAD_JSON_BYTES_MAX = 4 << 20, LABELS_MAX = 65536 };

/* A head while it is being loaded. */
typedef struct draft {
    kf_head head;
    kf_checkpoint *ckpt; /* NULL: the trunk's */
    kf_activation act;
    size_t n_dense; /* 0: no dense layer */
} draft;

static const char *const pooling_names[KF_N_POOLINGS] = {
    [KF_POOL_CLS] = "cls", [KF_POOL_MEAN] = "mean", [KF_POOL_POOLER] = "pooler"};

static void head_free(kf_head *h) {
    for (size_t i = 0; h->labels && i < h->n_labels; i++)
        free(h->labels[i]);
    free(h->labels);
    *h = (kf_head){0};
}

/* ---- the forward pass ---- */

/* The rows that a pooling makes of x; the trunk's own for tokens. */
static const void *pooled_rows(const kf_head_set *set, kf_pooling pooling, const void *x) {
    return pooling == KF_POOL_TOKENS ? x : set->pooled[pooling];
}

static bool reads(const kf_head_set *set, kf_pooling pooling) {
    for (size_t i = 0; i < set->n_groups; i++)
        if (set->groups[i].pooling == pooling) return true;
    return false;
}

static void pool(const kf_head_set *set, kf_stream *s, const kf_batch *b, const void *x) {
    /* A sequence's first row is where cu_seqlens says that it starts. */
    if (reads(set, KF_POOL_CLS) || reads(set, KF_POOL_POOLER))
        kf_gather_rows(s, set->pooled[KF_POOL_CLS], x, b->cu_seqlens, b->n_seqs, set->hidden);
    if (reads(set, KF_POOL_MEAN)) kf_mean_rows(s, set->pooled[KF_POOL_MEAN], x, b->cu_seqlens, b->n_seqs, set->hidden);
    if (reads(set, KF_POOL_POOLER))
        kf_linear(s, set->pooled[KF_POOL_POOLER], set->pooled[KF_POOL_CLS], set->pooler, b->n_seqs,
                  (kf_linear_opts){.act = KF_ACT_TANH});
}

void kf_heads_forward(const kf_head_set *set, kf_stream *s, const kf_batch *b, const void *x, float *host,
                      const kf_dump *dump) {
    pool(set, s, b, x);
    if (reads(set, KF_POOL_POOLER))
        kf_dump_rows(dump, s,
                     (kf_dump_view){set->pooled[KF_POOL_POOLER], s->device->act, b->n_seqs, set->hidden, set->hidden},
                     "pooler");
    for (size_t i = 0; i < set->n_groups; i++) {
        const kf_head_group *g = &set->groups[i];
        size_t n_rows = g->pooling == KF_POOL_TOKENS ? b->n_tokens : b->n_seqs;
        const void *in = pooled_rows(set, g->pooling, x); /* [n_rows, hidden] */
        if (g->has_dense) {
            kf_linear(s, g->hidden, in, g->dense, n_rows, (kf_linear_opts){.act = g->act});
            in = g->hidden; /* [n_rows, n_in] */
        }
        kf_linear(s, g->logits, in, g->classifier, n_rows, (kf_linear_opts){.out_f32 = true});
        kf_copy_out(s, host + g->host_offset, g->logits, n_rows * g->n_out * sizeof(float));
    }
    for (size_t i = 0; dump->tensor && i < set->n_heads; i++) {
        const kf_head *h = &set->heads[i];
        const kf_head_group *g = &set->groups[h->group_idx];
        size_t n_rows = g->pooling == KF_POOL_TOKENS ? b->n_tokens : b->n_seqs;
        kf_dump_rows(dump, s, (kf_dump_view){g->logits + h->column, KF_F32, n_rows, h->n_labels, g->n_out}, "logits.%s",
                     h->name);
    }
}

void kf_heads_carve(kf_head_set *set, kf_carve *arena, kf_dtype act, size_t max_tokens, size_t max_seqs) {
    size_t act_bytes = kf_dtype_bytes(act);
    for (size_t p = KF_POOL_CLS; p < KF_N_POOLINGS; p++)
        set->pooled[p] = kf_carve_take(arena, max_seqs * set->hidden, act_bytes);
    set->host_floats = 0;
    for (size_t i = 0; i < set->n_groups; i++) {
        kf_head_group *g = &set->groups[i];
        g->max_rows = g->pooling == KF_POOL_TOKENS ? max_tokens : max_seqs;
        g->hidden = kf_carve_take(arena, g->has_dense ? g->max_rows * g->n_in : 0, act_bytes);
        g->logits = kf_carve_take(arena, g->max_rows * g->n_out, sizeof(float));
        g->host_offset = set->host_floats;
        set->host_floats += g->max_rows * g->n_out;
    }
}

/* ---- DIR/heads/NAME.json ---- */

static kf_status copy_labels(const char *path, const json_t *labels, kf_head *h) {
    size_t n = json_array_size(labels);
    if (n < 1 || n > LABELS_MAX)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: labels must be a list of 1 to %d names", path, LABELS_MAX);
    if (!(h->labels = calloc(n, sizeof *h->labels))) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for labels", path);
    h->n_labels = n;
    for (size_t i = 0; i < n; i++) {
        const char *label = json_string_value(json_array_get(labels, i));
        if (!label) return KF_FAIL(KF_ERR_CORRUPT, "%s: labels[%zu] is no name", path, i);
        if (!(h->labels[i] = strdup(label))) return KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for labels", path);
    }
    return KF_OK;
}

static kf_status parse_kind(const char *path, const json_t *root, kf_head *h) {
    const char *kind = json_string_value(json_object_get(root, "kind"));
    if (kind && strcmp(kind, "token") == 0) {
        h->kind = KF_HEAD_TOKEN;
        h->pooling = KF_POOL_TOKENS;
        return KF_OK;
    }
    if (!kind || strcmp(kind, "sequence") != 0)
        return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: kind \"%.40s\", wanted \"sequence\" or \"token\"", path,
                       kind ? kind : "");
    h->kind = KF_HEAD_SEQUENCE;
    const char *pooling = json_string_value(json_object_get(root, "pooling"));
    for (size_t p = KF_POOL_CLS; pooling && p < KF_N_POOLINGS; p++) {
        if (strcmp(pooling, pooling_names[p]) != 0) continue;
        h->pooling = (kf_pooling)p;
        return KF_OK;
    }
    return KF_FAIL(KF_ERR_UNSUPPORTED, "%s: pooling \"%.40s\", wanted \"cls\", \"mean\" or \"pooler\"", path,
                   pooling ? pooling : "");
}

static kf_status parse_head(const char *path, const char *file_name, const json_t *root, draft *out) {
    static const char *const keys[] = {"name", "kind", "pooling", "activation", "labels", NULL};
    KF_TRY(kf_json_only(root, path, "the head", keys));
    const char *name = json_string_value(json_object_get(root, "name"));
    if (!name || strcmp(name, file_name) != 0)
        return KF_FAIL(KF_ERR_CORRUPT, "%s: name is \"%.40s\", wanted the file's \"%s\"", path, name ? name : "",
                       file_name);
    snprintf(out->head.name, sizeof out->head.name, "%s", name);
    KF_TRY(parse_kind(path, root, &out->head));
    const json_t *act = json_object_get(root, "activation");
    if (act && !json_is_null(act)) {
        if (!json_is_string(act)) return KF_FAIL(KF_ERR_CORRUPT, "%s: activation must be a name or null", path);
        KF_TRY(kf_activation_parse(json_string_value(act), &out->act));
    }
    return copy_labels(path, json_object_get(root, "labels"), &out->head);
}

/* *out is to be freed on failure too. */
static kf_status read_draft(kf_head_set *set, const char *folder, const char *name, draft *out) {
    char *json = NULL, *tensors = NULL;
    if (asprintf(&json, "%s/%s.json", folder, name) < 0) json = NULL;
    if (asprintf(&tensors, "%s/%s.safetensors", folder, name) < 0) tensors = NULL;
    kf_status s = json && tensors ? KF_OK : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a file's path");
    json_t *root = NULL;
    uint64_t hash = 0;
    KF_STEP(s, kf_json_read(json, HEAD_JSON_BYTES_MAX, JSON_REJECT_DUPLICATES, &root, &hash));
    KF_STEP(s, parse_head(json, name, root, out));
    KF_STEP(s, kf_checkpoint_open_file(tensors, &out->ckpt));
    if (s == KF_OK) {
        const kf_tensor *dense = kf_checkpoint_find(out->ckpt, "dense.weight");
        if (dense && (dense->n_dims != 2 || dense->shape[0] < 1))
            s = KF_FAIL(KF_ERR_CORRUPT, "%s: dense.weight must be [n, %zu]", tensors, set->hidden);
        else if (dense)
            out->n_dense = dense->shape[0];
        set->hash += hash;
    }
    json_decref(root);
    free(json);
    free(tensors);
    return s;
}

/* ---- which heads there are ---- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* NAME of every NAME.json in the folder, sorted; none where there is no folder. */
static kf_status list_names(const char *folder, char *names[HEADS_MAX], size_t *n) {
    *n = 0;
    DIR *dir = opendir(folder);
    if (!dir) {
        if (errno == ENOENT) return KF_OK;
        return KF_FAIL(KF_ERR_IO, "%s: %s", folder, strerror(errno));
    }
    kf_status s = KF_OK;
    while (s == KF_OK) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && errno) s = KF_FAIL(KF_ERR_IO, "%s: %s", folder, strerror(errno));
        if (!e) break;
        size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.' || len <= 5 || strcmp(e->d_name + len - 5, ".json") != 0) continue;
        if (len - 5 >= sizeof((kf_head *)0)->name || *n == HEADS_MAX - 1)
            s = KF_FAIL(KF_ERR_TOO_LARGE, "%s: %.80s: a head's name has at most 63 bytes, a folder at most %d heads",
                        folder, e->d_name, HEADS_MAX - 1);
        else if (!(names[*n] = strndup(e->d_name, len - 5)))
            s = KF_FAIL(KF_ERR_NO_MEMORY, "%s: no memory for a head's name", folder);
        else
            ++*n;
    }
    closedir(dir);
    qsort(names, *n, sizeof *names, by_text);
    return s;
}

/* The classifier that the checkpoint itself has: its labels move over to the head. */
static kf_status own_draft(const kf_config *c, draft *d) {
    *d = (draft){.head = {.kind = KF_HEAD_TOKEN, .pooling = KF_POOL_TOKENS}};
    if (c->task == KF_TASK_SEQUENCE) d->head = (kf_head){.kind = KF_HEAD_SEQUENCE, .pooling = KF_POOL_POOLER};
    snprintf(d->head.name, sizeof d->head.name, "classifier");
    if (!(d->head.labels = calloc(c->n_labels, sizeof *d->head.labels)))
        return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu labels", c->n_labels);
    d->head.n_labels = c->n_labels;
    for (size_t i = 0; i < c->n_labels; i++)
        if (!(d->head.labels[i] = strdup(c->labels[i])))
            return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu labels", c->n_labels);
    return KF_OK;
}

static kf_status read_drafts(kf_head_set *set, const char *dir, const kf_config *c, draft *drafts, size_t *n_drafts) {
    if (c->task != KF_TASK_TRUNK) KF_TRY(own_draft(c, &drafts[(*n_drafts)++]));
    char *folder = kf_path_join(dir, "heads"), *names[HEADS_MAX] = {0};
    size_t n = 0;
    kf_status s = folder ? list_names(folder, names, &n) : KF_FAIL(KF_ERR_NO_MEMORY, "no memory for a file's path");
    for (size_t i = 0; i < n; i++) {
        KF_STEP(s, read_draft(set, folder, names[i], &drafts[(*n_drafts)++]));
        free(names[i]);
    }
    free(folder);
    return s;
}

/* ---- groups ---- */

/* The group that the head can join; n_groups for a new one. */
static size_t find_group(const kf_head_set *set, const draft *d) {
    for (size_t i = 0; i < set->n_groups && !d->n_dense; i++)
        if (!set->groups[i].has_dense && set->groups[i].pooling == d->head.pooling) return i;
    return set->n_groups;
}

/* A head with a dense layer is a group of its own. */
static void assign_groups(kf_head_set *set, draft *drafts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        draft *d = &drafts[i];
        size_t idx = find_group(set, d);
        kf_head_group *g = &set->groups[idx];
        if (idx == set->n_groups) {
            *g = (kf_head_group){.pooling = d->head.pooling,
                                 .has_dense = d->n_dense > 0,
                                 .act = d->act,
                                 .n_in = d->n_dense ? d->n_dense : set->hidden};
            set->n_groups++;
        }
        d->head.group_idx = idx;
        d->head.column = g->n_out;
        g->n_out += d->head.n_labels;
    }
}

static kf_status load_group(kf_head_set *set, kf_loader *l, const draft *drafts, size_t n, size_t group_idx) {
    kf_head_group *g = &set->groups[group_idx];
    kf_linear_part parts[HEADS_MAX];
    size_t n_parts = 0;
    for (size_t i = 0; i < n; i++) {
        const draft *d = &drafts[i];
        if (d->head.group_idx != group_idx) continue;
        if (d->n_dense) {
            const kf_linear_part dense = {.name = "dense", .n_out = d->n_dense, .bias = true, .ckpt = d->ckpt};
            KF_TRY(kf_load_stack(l, &dense, 1, set->hidden, &g->dense));
        }
        parts[n_parts++] =
            (kf_linear_part){.name = "classifier", .n_out = d->head.n_labels, .bias = true, .ckpt = d->ckpt};
    }
    return kf_load_stack(l, parts, n_parts, g->n_in, &g->classifier);
}

static kf_status load_pooler(kf_head_set *set, kf_loader *l, const char *prefix) {
    if (!reads(set, KF_POOL_POOLER)) return KF_OK;
    kf_loader_at(l, "%spooler.", prefix);
    KF_TRY(kf_load_linear(l, "dense", set->hidden, set->hidden, true, &set->pooler));
    kf_loader_at(l, "%s", "");
    return KF_OK;
}

static kf_status build(kf_head_set *set, kf_loader *l, const char *prefix, draft *drafts, size_t n) {
    if (n == 0) return KF_OK;
    set->heads = calloc(n, sizeof *set->heads);
    set->groups = calloc(n, sizeof *set->groups);
    if (!set->heads || !set->groups) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for %zu heads", n);
    assign_groups(set, drafts, n);
    KF_TRY(load_pooler(set, l, prefix));
    for (size_t i = 0; i < set->n_groups; i++)
        KF_TRY(load_group(set, l, drafts, n, i));
    for (size_t i = 0; i < n; i++) {
        set->heads[set->n_heads++] = drafts[i].head;
        drafts[i].head = (kf_head){0};
        if (drafts[i].ckpt) set->hash += kf_checkpoint_hash(drafts[i].ckpt);
    }
    return KF_OK;
}

kf_status kf_heads_load(kf_head_set *set, kf_loader *l, const char *dir, const kf_config *c, const char *prefix) {
    set->hidden = c->hidden;
    draft *drafts = calloc(HEADS_MAX, sizeof *drafts);
    if (!drafts) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the heads of %s", dir);
    size_t n = 0;
    kf_loader_at(l, "%s", "");
    kf_status s = read_drafts(set, dir, c, drafts, &n);
    KF_STEP(s, build(set, l, prefix, drafts, n));
    for (size_t i = 0; i < n; i++) {
        head_free(&drafts[i].head);
        kf_checkpoint_close(drafts[i].ckpt);
    }
    free(drafts);
    return s;
}

void kf_heads_free(kf_head_set *set, kf_device *d) {
    for (size_t i = 0; i < set->n_heads; i++)
        head_free(&set->heads[i]);
    for (size_t i = 0; i < set->n_groups; i++) {
        kf_weight_free(d, set->groups[i].dense);
        kf_weight_free(d, set->groups[i].classifier);
    }
    kf_weight_free(d, set->pooler);
    free(set->heads);
    free(set->groups);
    *set = (kf_head_set){0};
}
