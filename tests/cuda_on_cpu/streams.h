/* Streams, events and graphs inside of the runner (streams.cpp, graphs.cpp). What was destroyed is kept and marked, so
 * that a later use is told from a new handle at the same address. */
#ifndef KF_ONCPU_STREAMS_H
#define KF_ONCPU_STREAMS_H

#include "runtime.h"

#include <deque>
#include <thread>
#include <vector>

struct CUgraph_st {
    struct node {
        oncpu::work work;
        std::vector<int> after; /* nodes that must have run */
    };
    bool destroyed = false;
    std::vector<node> nodes;
    /* of its capture */
    bool under_way = false;
    cudaStream_t origin = nullptr;
    cudaStreamCaptureMode mode{};
    std::thread::id thread;
    bool lost = false; /* by a call that a capture forbids */
};

struct CUgraphExec_st {
    bool destroyed = false;
    std::vector<CUgraph_st::node> nodes;
};

struct CUstream_st {
    bool destroyed = false;
    bool waits_for_default = true;
    std::deque<oncpu::work> queue;
    cudaGraph_t captured = nullptr; /* into what it is capturing */
    std::vector<int> last;          /* nodes that its next one comes after */
};

struct CUevent_st {
    bool destroyed = false;
    unsigned n_recorded = 0, n_reached = 0;
    cudaStream_t stream = nullptr;
    cudaGraph_t captured = nullptr; /* of its last record */
    std::vector<int> nodes;
};

namespace oncpu {

extern CUstream_st default_stream;
extern std::vector<cudaStream_t> streams;

cudaStream_t stream_of(cudaStream_t s, const char *call_name); /* NULL and its like: the default one */
void run_all(cudaStream_t s);

template <class T> T *alive(T *handle, const char *call_name, const char *kind) {
    if (!handle) fail("%s: no %s", call_name, kind);
    if (handle->destroyed) fail("%s: the %s was destroyed", call_name, kind);
    return handle;
}

} // namespace oncpu

#endif
