/* The state machine of dialogue.h: NEW → ENCODE → (decide) → DECODE → (check) → DONE. */
#include "dialogue/dialogue.h"

#include "dialogue/redact.h"

void kf_dialogue_begin(kf_dialogue *d, const kf_dialogue_in *in) {
    *d = (kf_dialogue){.in = *in, .reply = {.s = ""}, .handoff = {.summary = {.s = ""}}};
}

static unsigned finish(kf_dialogue *d, kf_str reply, kf_finish how) {
    d->reply = reply;
    d->finish = how;
    d->state = KF_ST_DONE;
    return KF_DO_FINISH;
}

static void hand_off(kf_dialogue *d, kf_handoff_reason reason) {
    d->handoff.reason = reason;
    kf_handoff_summary(d->in.arena, d->in.text, d->understood, d->in.n_history, &d->handoff.summary);
}

/* DECIDE: what to do about what was understood. */
static unsigned decide(kf_dialogue *d) {
    if (!d->in.reply_wanted) return finish(d, (kf_str){.s = ""}, KF_FINISH_NONE);
    kf_decision decision;
    kf_policy_decide(d->in.policy,
                     &(kf_policy_in){.text = d->in.text,
                                     .history = d->in.history,
                                     .n_history = d->in.n_history,
                                     .understood = d->understood,
                                     .can_write = d->in.can_write},
                     &decision);
    if (decision.handoff) hand_off(d, decision.handoff);
    kf_str question;
    switch (decision.move) {
    case KF_MOVE_SILENT: return finish(d, (kf_str){.s = ""}, KF_FINISH_STOP);
    case KF_MOVE_ASK_BACK:
        if (kf_policy_question(d->in.policy, d->in.text, d->understood, d->in.arena, &question))
            return finish(d, question, KF_FINISH_STOP);
        break;
    case KF_MOVE_WRITE: break;
    }
    d->state = KF_ST_DECODE;
    return KF_DO_GENERATE;
}

/* CHECK: a reply that may not be sent becomes a question back, and a colleague is called. */
static unsigned check(kf_dialogue *d, kf_str text, kf_finish how) {
    if (how != KF_FINISH_FAILED && kf_policy_reply_ok(text)) return finish(d, text, how);
    kf_str question = {.s = ""};
    kf_policy_question(d->in.policy, d->in.text, d->understood, d->in.arena, &question);
    if (!d->handoff.reason) hand_off(d, KF_HANDOFF_NO_REPLY);
    return finish(d, question, KF_FINISH_FAILED);
}

unsigned kf_dialogue_step(kf_dialogue *d, const kf_dialogue_event *e) {
    switch (d->state) {
    case KF_ST_NEW:
        if (e->kind != KF_EV_ADMITTED) break;
        d->state = KF_ST_ENCODE;
        return KF_DO_ENCODE;
    case KF_ST_ENCODE:
        if (e->kind != KF_EV_UNDERSTOOD) break;
        d->understood = e->understood;
        return decide(d);
    case KF_ST_DECODE:
        if (e->kind != KF_EV_WRITTEN) break;
        return check(d, e->written.text, e->written.finish);
    case KF_ST_DONE: return 0;
    }
    return finish(d, (kf_str){.s = ""}, KF_FINISH_FAILED);
}
