/* A step of decode rows alone as one graph, so that the device never waits for the host's launches.
 *
 * A graph's sizes are fixed, so there is one for each bucket of rows: 1, 2, 4, 8, … and max_seqs. A step takes the
 * smallest that holds its rows; the rows behind them are padding: token 0 of a sequence without tokens, whose keys go
 * nowhere (slot -1), that sees no cache and whose draw touches no slot. Rows do not see each other, and their sums do
 * not depend on the row count (promise 3 of DESIGN.md), so padding changes no bit of a result.
 *
 * The copies in and out stand outside the graph. So the graphs belong to the model and serve every step object, each of
 * which has pinned memory of its own; and only what is used of results and tables is moved. The stream keeps the order:
 * a step's input is not overwritten before the step ahead of it has read its own.
 * Run its tests: ctest -R on_cpu_graphs. */
#include "model/decoder_internal.h"

#include "base/clock.h"
#include "base/log.h"

static size_t graph_rows(const kf_decoder *m, size_t graph_idx) {
    const size_t most = m->max_seqs < m->max_tokens ? m->max_seqs : m->max_tokens, rows = (size_t)1 << graph_idx;
    return rows < most ? rows : most;
}

/* Rows n … rows - 1 of the step's input. */
static void pad(kf_decoder_step *step, size_t n, size_t rows) {
    const kf_decoder_inputs *in = &step->in;
    for (size_t i = n; i < rows; i++) {
        in->input_ids[i] = in->position_ids[i] = in->row_idx[i] = in->kv_len[i] = 0;
        in->slot_mapping[i] = -1;
        in->cu_seqlens[i + 1] = (int32_t)n;
        in->params[i] = (kf_sample_params){.top_p = 1, .repetition_penalty = 1, .slot = -1};
    }
}

kf_graph *kf_decoder_graph_of(kf_decoder_step *step, const kf_stream *s, const kf_decoder_seq *seqs, size_t n_seqs) {
    const kf_decoder *m = step->m;
    if (m->n_graphs == 0 || s != m->graphs_stream) return NULL;
    for (size_t i = 0; i < n_seqs; i++)
        if (seqs[i].input_ids || !seqs[i].sample) return NULL;
    size_t idx = 0;
    while (idx < m->n_graphs && graph_rows(m, idx) < n_seqs)
        idx++;
    if (idx == m->n_graphs) return NULL;
    pad(step, n_seqs, graph_rows(m, idx));
    return m->graphs[idx];
}

/* A step of padding alone: run once as it is, which loads kernels and lets the library choose, then captured. */
static kf_status capture(kf_decoder *m, kf_stream *s, kf_decoder_step *step, size_t rows, kf_graph **out) {
    kf_decoder_step_begin(step, rows);
    pad(step, 0, rows);
    step->batch.n_tokens = step->n_rows = rows;
    step->batch.max_seqlen = 1;
    kf_decoder_copy_inputs(step, s, 0);
    kf_decoder_forward(m, s, step);
    KF_TRY(kf_event_record(s, step->done));
    KF_TRY(kf_decoder_wait(step));
    KF_TRY(kf_capture_begin(s));
    kf_decoder_forward(m, s, step);
    return kf_capture_end(s, out);
}

static kf_status capture_all(kf_decoder *m, kf_stream *s, kf_decoder_step *step) {
    size_t rows = 0, before = m->d->memory_bytes_used;
    for (size_t i = 0; i < KF_DECODER_GRAPHS_MAX && graph_rows(m, i) > rows; i++) {
        int64_t begin_ns = kf_clock_now_ns();
        rows = graph_rows(m, i);
        KF_TRY(capture(m, s, step, rows, &m->graphs[i]));
        m->n_graphs = i + 1;
        kf_log(KF_INFO, "decoder_graph", KF_INT("rows", rows),
               KF_F64("ms", (double)(kf_clock_now_ns() - begin_ns) / 1e6), KF_END);
    }
    m->graphs_bytes = m->d->memory_bytes_used - before;
    m->graphs_stream = s;
    return KF_OK;
}

kf_status kf_decoder_capture(kf_decoder *m, kf_stream *s) {
    kf_decoder_step *step;
    if (!kf_device_has_graphs(m->d) || m->dump.tensor) return KF_OK;
    KF_REQUIRE(m->n_graphs == 0);
    KF_TRY(kf_decoder_step_new(m, &step));
    kf_status status = capture_all(m, s, step);
    kf_decoder_step_free(step);
    if (status != KF_OK) kf_decoder_graphs_free(m);
    return status;
}

void kf_decoder_graphs_free(kf_decoder *m) {
    for (size_t i = 0; i < m->n_graphs; i++)
        kf_graph_free(m->d, m->graphs[i]);
    m->n_graphs = 0;
    m->graphs_stream = NULL;
}

size_t kf_decoder_n_graphs(const kf_decoder *m) {
    return m->n_graphs;
}

size_t kf_decoder_graphs_bytes(const kf_decoder *m) {
    return m->graphs_bytes;
}
