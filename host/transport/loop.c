/* The epoll loop of loop.h, and the adapter that nats.c calls (natsOptions_SetEventLoop). */
#include "transport/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum { MAX_EVENTS = 8, KEEPALIVE_IDLE_S = 30, KEEPALIVE_INTERVAL_S = 10, KEEPALIVE_PROBES = 3, UNACKED_MS = 60000 };
static const int64_t SILENT_NS = 300LL * 1000000000LL;

typedef enum source { SOURCE_NATS, SOURCE_OUTBOX, SOURCE_TICK, SOURCE_WAKE } source;

struct kf_io {
    kf_io_hooks hooks;
    pthread_t thread;
    bool running;
    int epoll_fd, tick_fd, wake_fd;
    _Atomic bool stop;
    natsConnection *_Atomic nc;  /* written by nats.c's connecting thread, in attach */
    _Atomic int nats_fd;         /* -1 while not connected */
    _Atomic unsigned n_attached; /* connections made: a new socket may have the old one's number */
    _Atomic bool want_write;     /* nats.c has bytes to send; set and cleared under the connection's lock */
    /* the loop's thread only */
    uint32_t nats_events;   /* what the socket is polled for now; 0 where that is not known */
    unsigned polled_attach; /* the n_attached that nats_events is about */
    bool outbox_polled;
    int64_t read_ns; /* of the last read event */
};

/* The loop that runs on this thread. */
static _Thread_local const kf_io *here;

/* ---- what nats.c calls, from any of its threads ---- */

static natsStatus on_attach(void **user_data, void *loop, natsConnection *nc, natsSock fd) {
    kf_io *l = loop;
    int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, probes = KEEPALIVE_PROBES,
        unacked = UNACKED_MS;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof unacked);

    struct epoll_event e = {.events = EPOLLIN, .data.u32 = SOURCE_NATS};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0) return NATS_SYS_ERROR;
    atomic_store(&l->nc, nc);
    atomic_fetch_add(&l->n_attached, 1);
    atomic_store(&l->nats_fd, fd);
    *user_data = l;
    kf_io_wake(l);
    return NATS_OK;
}

/* nats.c asks to stop polling when it gives the socket up, just before it closes it. */
static natsStatus on_read(void *user_data, bool add) {
    kf_io *l = user_data;
    if (add) return NATS_OK;
    int fd = atomic_exchange(&l->nats_fd, -1);
    if (fd >= 0) epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    return NATS_OK;
}

static natsStatus on_write(void *user_data, bool add) {
    kf_io *l = user_data;
    atomic_store(&l->want_write, add);
    if (add && here != l) kf_io_wake(l);
    return NATS_OK;
}

static natsStatus on_detach(void *user_data) {
    return on_read(user_data, false);
}

kf_status kf_io_use(kf_io *l, natsOptions *opts) {
    natsStatus ns = natsOptions_SetEventLoop(opts, l, on_attach, on_read, on_write, on_detach);
    if (ns == NATS_OK) ns = natsOptions_SetSendAsap(opts, true); /* no flusher thread */
    if (ns == NATS_OK) ns = natsOptions_SetPingInterval(opts, 0);
    return ns == NATS_OK ? KF_OK : KF_FAIL(KF_ERR_IO, "nats.c's event-loop mode: %s", natsStatus_GetText(ns));
}

bool kf_io_connected(const kf_io *l) {
    return atomic_load(&l->nats_fd) >= 0;
}

/* ---- one turn ---- */

/* One write for all that the turn published. Only this thread empties nats.c's buffer, so where want_write is set there
 * are bytes: nats.c takes a write of none for a closed connection. */
static void write_out(kf_io *l) {
    if (atomic_load(&l->want_write) && kf_io_connected(l)) natsConnection_ProcessWriteEvent(atomic_load(&l->nc));
}

/* Polls for what can be handled now: EPOLLOUT while bytes are left, nothing new while too many are. */
static void poll_for(kf_io *l) {
    int fd = atomic_load(&l->nats_fd);
    unsigned n_attached = atomic_load(&l->n_attached);
    bool behind = fd >= 0 && atomic_load(&l->want_write) &&
                  natsConnection_Buffered(atomic_load(&l->nc)) > l->hooks.max_buffered_bytes;
    if (n_attached != l->polled_attach) {
        l->polled_attach = n_attached;
        l->nats_events = 0;
        l->read_ns = kf_clock_now_ns();
    }
    uint32_t events = (behind ? 0 : EPOLLIN) | (atomic_load(&l->want_write) ? EPOLLOUT : 0);
    if (fd >= 0 && events != l->nats_events) {
        struct epoll_event e = {.events = events, .data.u32 = SOURCE_NATS};
        if (epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, fd, &e) == 0) l->nats_events = events;
    }
    bool outbox = fd >= 0 && !behind;
    if (outbox != l->outbox_polled) {
        struct epoll_event e = {.events = outbox ? EPOLLIN : 0, .data.u32 = SOURCE_OUTBOX};
        if (epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, l->hooks.outbox_fd, &e) == 0) l->outbox_polled = outbox;
    }
}

/* The loop's own view of a dead broker (the kernel has its own: keep-alive). Shutting the socket down makes nats.c see
 * its end, on this thread. */
static void check_silence(kf_io *l) {
    int fd = atomic_load(&l->nats_fd);
    int64_t silent_ns = kf_clock_now_ns() - l->read_ns;
    if (fd < 0 || atomic_load(&l->n_attached) != l->polled_attach || silent_ns <= SILENT_NS) return;
    kf_log(KF_WARN, "nats_silent", KF_INT("seconds", silent_ns / 1000000000), KF_END);
    shutdown(fd, SHUT_RDWR);
    l->read_ns += silent_ns;
}

static void handle(kf_io *l, source which, uint32_t events) {
    uint64_t n;
    switch (which) {
    case SOURCE_NATS:
        if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || !kf_io_connected(l)) return;
        l->read_ns = kf_clock_now_ns();
        natsConnection_ProcessReadEvent(atomic_load(&l->nc));
        l->hooks.messages(l->hooks.ctx);
        return;
    case SOURCE_OUTBOX:
        if (kf_io_connected(l)) l->hooks.outbox(l->hooks.ctx);
        return;
    case SOURCE_TICK:
    case SOURCE_WAKE:
        if (read(which == SOURCE_TICK ? l->tick_fd : l->wake_fd, &n, sizeof n) < 0) return;
        check_silence(l);
        l->hooks.tick(l->hooks.ctx);
        return;
    }
}

static void *run(void *arg) {
    kf_io *l = arg;
    struct epoll_event events[MAX_EVENTS];
    pthread_setname_np(pthread_self(), "kefu-io");
    here = l;
    while (!atomic_load(&l->stop)) {
        poll_for(l);
        int n = epoll_wait(l->epoll_fd, events, MAX_EVENTS, -1);
        for (int i = 0; i < n; i++)
            handle(l, (source)events[i].data.u32, events[i].events);
        write_out(l);
    }
    return NULL;
}

/* ---- life ---- */

static kf_status open_fds(kf_io *l) {
    struct itimerspec every = {
        .it_interval = {.tv_sec = l->hooks.tick_ms / 1000, .tv_nsec = l->hooks.tick_ms % 1000 * 1000000L}};
    every.it_value = every.it_interval;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event tick = {.events = EPOLLIN, .data.u32 = SOURCE_TICK};
    struct epoll_event wake = {.events = EPOLLIN, .data.u32 = SOURCE_WAKE};
    struct epoll_event outbox = {.events = 0, .data.u32 = SOURCE_OUTBOX};
    if (l->epoll_fd < 0 || l->tick_fd < 0 || l->wake_fd < 0 || timerfd_settime(l->tick_fd, 0, &every, NULL) < 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->tick_fd, &tick) < 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &wake) < 0 ||
        epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->hooks.outbox_fd, &outbox) < 0)
        return KF_FAIL(KF_ERR_IO, "the I/O thread's descriptors: %s", strerror(errno));
    return KF_OK;
}

kf_status kf_io_new(const kf_io_hooks *hooks, kf_io **out) {
    kf_io *l = malloc(sizeof *l);
    if (!l) return KF_FAIL(KF_ERR_NO_MEMORY, "no memory for the I/O loop");
    *l = (kf_io){.hooks = *hooks, .epoll_fd = -1, .tick_fd = -1, .wake_fd = -1, .nats_fd = -1};
    kf_status s = open_fds(l);
    if (s != KF_OK) {
        kf_io_free(l);
        return s;
    }
    *out = l;
    return KF_OK;
}

void kf_io_free(kf_io *l) {
    if (!l) return;
    if (l->epoll_fd >= 0) close(l->epoll_fd);
    if (l->tick_fd >= 0) close(l->tick_fd);
    if (l->wake_fd >= 0) close(l->wake_fd);
    free(l);
}

kf_status kf_io_start(kf_io *l) {
    int e = pthread_create(&l->thread, NULL, run, l);
    if (e) return KF_FAIL(KF_ERR_IO, "the I/O thread does not start: %s", strerror(e));
    l->running = true;
    return KF_OK;
}

void kf_io_stop(kf_io *l) {
    if (!l->running) return;
    atomic_store(&l->stop, true);
    kf_io_wake(l);
    pthread_join(l->thread, NULL);
    l->running = false;
}

void kf_io_wake(kf_io *l) {
    uint64_t one = 1;
    if (write(l->wake_fd, &one, sizeof one) < 0) return; /* full: it is awake already */
}
