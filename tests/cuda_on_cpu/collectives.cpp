/* Warp operations and block barriers. Whoever comes waits; the last one does the work and lets the others go on.
 * Noticed: lanes of one group at different operations, masks that name lanes which are not there or have exited,
 * barriers that threads of a block reach at different places. ThreadSanitizer is told what is ordered by them, and only
 * that: a barrier and __syncwarp order memory, a shuffle or a vote does not. */
#include "runtime.h"
#include "sanitizers.h"

#include <cstdlib>
#include <cstring>

namespace oncpu {

constexpr int BARRIERS = 16;

static struct barrier {
    int n_here, n_expected;
    place at;
    uint32_t waiting[BLOCK_MAX / WARP];
    unsigned turn;
    int count;
    int result[2]; /* of the turn, odd or even */
} barriers[BARRIERS];

#ifdef KF_ONCPU_TSAN
/* Addresses that stand for one barrier's or warp operation's turn. */
static struct identities { char barrier[BARRIERS][2], group[BLOCK_MAX / WARP][WARP][2]; } * identity;
#endif

void barriers_reset() {
    memset(barriers, 0, sizeof barriers);
#ifdef KF_ONCPU_TSAN /* new ones: ordered after the launch, not after other blocks */
    free(identity);
    identity = (identities *)malloc(sizeof *identity);
#endif
}

static fiber *caller(place at) {
    if (!current || current == &block.host) fail("%s outside of a kernel", at.op);
    return current;
}

/* ---- warps ---- */

static void check_mask(const fiber *me, uint32_t mask, place at) {
    const warp &w = *me->in_warp;
    if (!(mask & me->bit))
        fail("%s (%s:%d): calling lane %u is not in its own mask %08x", at.op, at.file, at.line, me->lane, mask);
    if (mask & ~w.valid)
        fail("%s (%s:%d): mask %08x names lanes outside the block (there are %08x)", at.op, at.file, at.line, mask,
             w.valid);
    if (mask & w.exited)
        fail("%s (%s:%d): mask %08x names exited lanes %08x", at.op, at.file, at.line, mask, mask & w.exited);
}

static void check_same(const fiber *me, const fiber *other) {
    const lane_op &a = me->op, &b = other->op;
    if (a.fn == b.fn && a.mask == b.mask && a.at.line == b.at.line && a.at.op == b.at.op) return;
    fail("warp divergence: lane %u at %s mask %08x (%s:%d), lane %u waits at %s mask %08x (%s:%d)", me->lane, a.at.op,
         a.mask, a.at.file, a.at.line, other->lane, b.at.op, b.mask, b.at.file, b.at.line);
}

/* Whether all lanes of the caller's group are here, at the same operation. */
static bool group_is_here(const fiber *me) {
    const warp &w = *me->in_warp;
    const uint32_t mask = me->op.mask, others = mask & w.waiting & ~me->bit;
    const bool all = (w.waiting & mask) == mask;
    for (uint32_t m = all ? others : others & -others; m;
         m &= m - 1) { /* one of them now, all when the last one comes */
        const fiber *other = w.lane[__builtin_ctz(m)];
        if (!(other->op.mask & me->bit)) return false; /* it waits for another group first */
        check_same(me, other);
    }
    return all;
}

void warp_operation(warp_fn fn, uint32_t mask, const void *in, void *out, int arg, place at, bool orders) {
    fiber *me = caller(at);
    warp &w = *me->in_warp;
    check_mask(me, mask, at);
    me->op = lane_op{fn, mask, in, out, arg, at};
    w.waiting |= me->bit;
    const int first = __builtin_ctz(mask);
    (void)orders;
#ifdef KF_ONCPU_TSAN
    char *turn = &identity->group[&w - block.warps][first][w.turn[first] & 1];
    if (orders) __tsan_release(turn);
#endif
    if (group_is_here(me)) {
        if (fn) fn(w, mask);
        w.waiting &= ~mask;
        w.runnable |= mask;
        w.turn[first]++;
    } else {
        w.runnable &= ~me->bit;
        give_way();
    }
#ifdef KF_ONCPU_TSAN
    if (orders) __tsan_acquire(turn);
#endif
}

/* ---- blocks ---- */

static int barrier_wait(int id, int n_threads, place at, int predicate, vote what) {
    fiber *me = caller(at);
    if (id < 0 || id >= BARRIERS) fail("%s (%s:%d): there is no barrier %d", at.op, at.file, at.line, id);
    if (n_threads < 0 || n_threads > block.n_threads || n_threads % WARP)
        fail("%s (%s:%d): %d threads in a block of %d", at.op, at.file, at.line, n_threads, block.n_threads);
    barrier &b = barriers[id];
    if (!n_threads) n_threads = block.n_threads;
    if (!b.n_here) {
        b.at = at;
        b.n_expected = n_threads;
        b.count = 0;
    } else if ((!id && b.at.line != at.line) || b.at.op != at.op || b.n_expected != n_threads) {
        fail("barrier divergence: thread at %s (%s:%d) while others wait at %s (%s:%d)", at.op, at.file, at.line,
             b.at.op, b.at.file, b.at.line);
    }
    me->op.at = at;
    const unsigned turn = b.turn & 1;
    b.n_here++;
    b.count += predicate != 0;
#ifdef KF_ONCPU_TSAN
    char *sync = &identity->barrier[id][turn];
    __tsan_release(sync);
#endif
    if (b.n_here == b.n_expected) {
        b.result[turn] = what == vote::count ? b.count : what == vote::all ? b.count == n_threads : b.count > 0;
        for (int i = 0; i < block.n_warps; i++) {
            block.warps[i].runnable |= b.waiting[i];
            b.waiting[i] = 0;
        }
        b.n_here = 0;
        b.turn++;
    } else {
        b.waiting[me->in_warp - block.warps] |= me->bit;
        me->in_warp->runnable &= ~me->bit;
        give_way();
    }
#ifdef KF_ONCPU_TSAN
    __tsan_acquire(sync);
#endif
    return b.result[turn];
}

void block_barrier(int id, int n_threads, place at) {
    barrier_wait(id, n_threads, at, 0, vote::count);
}

int block_vote(int predicate, vote what, place at) {
    return barrier_wait(0, 0, at, predicate, what);
}

} // namespace oncpu
