/* The I/O thread: one epoll loop that carries a NATS connection, the server's outbox, a tick and a way to stop it.
 *
 *     KF_TRY(kf_io_new(&hooks, &loop));
 *     KF_TRY(kf_io_use(loop, opts));              // nats.c in event-loop mode: its socket is polled here
 *     KF_TRY(kf_io_start(loop));                  // from here every hook runs on the loop's thread
 *     …                                           // a tick hook calls natsConnection_Connect(&nc, opts)
 *     kf_io_stop(loop);                           // joins the thread
 *     natsConnection_Destroy(nc);
 *     kf_io_free(loop);
 *
 * Why event-loop mode, and how it stays sound with nats.c 3.4.1:
 * - Reading, parsing, answering and writing happen on one thread. Subscriptions are synchronous ones, polled with
 *   natsSubscription_NextMsg(…, 0) after each read: no delivery thread, no hand-over, no lock that two threads want.
 * - A publish only appends to nats.c's buffer. At the end of a turn one write carries what the turn has published; what
 *   the socket does not take waits for EPOLLOUT. So nothing here waits for the broker.
 * - The ping timer of nats.c is off: it would close the socket from its own thread while this one reads from it. Dead
 *   peers are found by TCP keep-alive, and a connection that was silent for SILENT_NS is shut down from here (a server
 *   pings every two minutes).
 * - While nats.c reconnects it holds the connection's lock, for seconds where a host does not answer: nothing may be
 *   published between loss and reconnection. kf_io_connected tells; the outbox is not polled meanwhile, so replies wait
 *   in their jobs.
 * - With TLS, nats.c waits inside SSL_read for the rest of a record that has begun to arrive; keep-alive bounds it.
 */
#ifndef KF_TRANSPORT_LOOP_H
#define KF_TRANSPORT_LOOP_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct kf_io kf_io;

typedef struct kf_io_hooks {
    void (*messages)(void *ctx); /* the connection has been read from: poll the subscriptions */
    void (*outbox)(void *ctx);   /* the outbox is readable and may be sent */
    void (*tick)(void *ctx);     /* every tick_ms */
    void *ctx;
    int outbox_fd; /* level-triggered; polled only while connected and under max_buffered_bytes */
    int tick_ms;
    int max_buffered_bytes; /* unsent bytes above which neither socket nor outbox is read: the broker's, not our, queue
                             */
} kf_io_hooks;

/* KF_ERR_NO_MEMORY; KF_ERR_IO. */
kf_status kf_io_new(const kf_io_hooks *hooks, kf_io **out);
void kf_io_free(kf_io *l); /* stop it, and destroy the connection, first */

/* Puts the loop into nats.c's options: event-loop mode, no ping timer, immediate hand-over of what is published. */
kf_status kf_io_use(kf_io *l, natsOptions *opts);

kf_status kf_io_start(kf_io *l); /* KF_ERR_IO: the thread does not start */
void kf_io_stop(kf_io *l);       /* joins the thread; a second call does nothing. Not from a hook */
void kf_io_wake(kf_io *l);       /* runs the tick hook soon. Any thread */

bool kf_io_connected(const kf_io *l); /* any thread */

#endif
