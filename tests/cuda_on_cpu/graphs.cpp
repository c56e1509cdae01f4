/* Stream capture and graphs (CUDA C++ Programming Guide, "CUDA Graphs"). A capture writes down work and what it comes
 * after: the stream's earlier work, and that of streams it waited for. At a launch the graph's nodes run in an order
 * that this allows, which the schedule chooses, so a missing event between two streams shows. Calls that a capture
 * forbids return CUDA's error, say so on stderr, and the capture is lost. */
#include "streams.h"
#include "runner.h"

#include <algorithm>
#include <cstdio>

namespace oncpu {

static std::deque<CUgraph_st> graphs; /* all that were made */
static std::deque<CUgraphExec_st> executables;

cudaError_t refused_by_capture(const char *call_name) {
    bool refused = false;
    for (CUgraph_st &g : graphs) {
        if (!g.under_way) continue;
        const bool mine = g.thread == std::this_thread::get_id();
        if (g.mode == cudaStreamCaptureModeRelaxed || (!mine && g.mode != cudaStreamCaptureModeGlobal)) continue;
        fprintf(stderr, "cuda on cpu: %s during stream capture\n", call_name);
        refused = g.lost = true;
    }
    return refused ? error(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t capture(cudaStream_t s, work w) {
    cudaGraph_t g = s->captured;
    if (g->lost) return error(cudaErrorStreamCaptureInvalidated);
    g->nodes.push_back({std::move(w), s->last});
    s->last = {(int)g->nodes.size() - 1};
    return cudaSuccess;
}

/* Whether there is work that nothing comes after, the origin stream neither. */
static bool has_unjoined_work(cudaGraph_t g) {
    std::vector<bool> joined(g->nodes.size());
    for (const CUgraph_st::node &n : g->nodes)
        for (int before : n.after)
            joined[(size_t)before] = true;
    for (int last : g->origin->last)
        joined[(size_t)last] = true;
    return std::find(joined.begin(), joined.end(), false) != joined.end();
}

static size_t choose(const std::vector<size_t> &ready) {
    if (schedule == order::forward) return 0;
    if (schedule == order::reverse) return ready.size() - 1;
    return draw((unsigned)ready.size());
}

static void run_nodes(const std::vector<CUgraph_st::node> &nodes) {
    std::vector<bool> done(nodes.size());
    std::vector<size_t> ready;
    for (size_t n = 0; n < nodes.size(); n++) {
        ready.clear();
        for (size_t i = 0; i < nodes.size(); i++) {
            const auto &after = nodes[i].after;
            auto is_done = [&](int before) { return done[(size_t)before]; };
            if (done[i] || !std::all_of(after.begin(), after.end(), is_done)) continue;
            ready.push_back(i);
            if (schedule == order::forward) break;
        }
        const size_t i = ready[choose(ready)];
        nodes[i].work();
        done[i] = true;
    }
}

} // namespace oncpu

using namespace oncpu;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    cudaStream_t s = stream_of(stream, "cudaStreamBeginCapture");
    if (s == &default_stream) return error(cudaErrorStreamCaptureUnsupported);
    if (s->captured) return error(cudaErrorIllegalState);
    oncpu_calls.captures++;
    cudaGraph_t g = &graphs.emplace_back();
    g->under_way = true;
    g->origin = s;
    g->mode = mode;
    g->thread = std::this_thread::get_id();
    s->captured = g;
    s->last.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    call lock;
    cudaStream_t s = stream_of(stream, "cudaStreamEndCapture");
    *out = nullptr;
    cudaGraph_t g = s->captured;
    if (!g || g->origin != s) return error(cudaErrorStreamCaptureUnmatched);
    if (g->mode != cudaStreamCaptureModeRelaxed && g->thread != std::this_thread::get_id())
        return error(cudaErrorStreamCaptureWrongThread);
    const bool unjoined = has_unjoined_work(g);
    for (cudaStream_t t : streams)
        if (t->captured == g) {
            t->captured = nullptr;
            t->last.clear();
        }
    g->under_way = false;
    g->destroyed = g->lost || unjoined;
    if (g->lost) return error(cudaErrorStreamCaptureInvalidated);
    if (unjoined) {
        fprintf(stderr, "cuda on cpu: cudaStreamEndCapture: another stream's work was not waited for\n");
        return error(cudaErrorStreamCaptureUnjoined);
    }
    *out = g;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *out) {
    call lock;
    cudaStream_t s = stream_of(stream, "cudaStreamIsCapturing");
    *out = !s->captured        ? cudaStreamCaptureStatusNone
           : s->captured->lost ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    cudaGraph_t g = alive(graph, "cudaGraphInstantiate", "graph");
    if (g->under_way) return error(cudaErrorInvalidValue);
    oncpu_calls.allocations++;
    cudaGraphExec_t x = &executables.emplace_back();
    x->nodes = g->nodes;
    *out = x;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t graph, cudaStream_t stream) {
    call lock;
    (void)alive(graph, "cudaGraphUpload", "executable graph");
    (void)stream_of(stream, "cudaGraphUpload");
    return error(device_status());
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    call lock;
    if (cudaError_t e = device_status()) return error(e);
    cudaGraphExec_t x = alive(graph, "cudaGraphLaunch", "executable graph");
    cudaStream_t s = stream_of(stream, "cudaGraphLaunch");
    if (s->captured) {
        s->captured->lost = true;
        fprintf(stderr, "cuda on cpu: cudaGraphLaunch during stream capture\n");
        return error(cudaErrorStreamCaptureUnsupported);
    }
    oncpu_calls.graph_launches++;
    return enqueue(s, [x] { run_nodes(x->nodes); }); /* destroyed meanwhile, it still runs */
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    call lock;
    cudaGraph_t g = alive(graph, "cudaGraphDestroy", "graph");
    g->destroyed = true;
    g->nodes.clear();
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    call lock;
    oncpu_calls.allocations++;
    alive(graph, "cudaGraphExecDestroy", "executable graph")->destroyed = true;
    finish_all();
    graph->nodes.clear();
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *n) { /* the count alone */
    call lock;
    *n = alive(graph, "cudaGraphGetNodes", "graph")->nodes.size();
    return cudaSuccess;
}
}
