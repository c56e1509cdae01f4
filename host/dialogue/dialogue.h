/* One request's dialogue as a state machine without a clock, a device or a network: an event goes in, what is wanted
 * next comes out, and whoever carries it out (serve/, a test) answers with the next event.
 *
 *     kf_dialogue_begin(&d, &(kf_dialogue_in){.policy = …, .arena = …, .text = …, .reply_wanted = true});
 *     kf_dialogue_step(&d, &(kf_dialogue_event){KF_EV_ADMITTED});                     // KF_DO_ENCODE
 *     kf_dialogue_step(&d, &(kf_dialogue_event){KF_EV_UNDERSTOOD, .understood = &u}); // KF_DO_GENERATE
 *     kf_dialogue_step(&d, &(kf_dialogue_event){KF_EV_WRITTEN, .written = …});        // KF_DO_FINISH
 *     // the outcome: d.reply, d.finish, d.handoff
 *
 * Wants are bits, so that later ones (put a key, search, ask for facts, act) can be asked for together; each brings
 * its event and, where something must be waited for, its state. KF_DO_FINISH comes exactly once.
 */
#ifndef KF_DIALOGUE_DIALOGUE_H
#define KF_DIALOGUE_DIALOGUE_H

#include "base/arena.h"
#include "dialogue/conversation.h"
#include "dialogue/policy.h"

typedef enum kf_dialogue_state { KF_ST_NEW, KF_ST_ENCODE, KF_ST_DECODE, KF_ST_DONE } kf_dialogue_state;

enum {
    KF_DO_ENCODE = 1 << 0,   /* one pass of the encoder over the text */
    KF_DO_GENERATE = 1 << 1, /* the decoder writes the reply */
    KF_DO_FINISH = 1 << 2    /* the outcome stands in the dialogue: answer with it */
};

typedef enum kf_dialogue_event_kind {
    KF_EV_ADMITTED,   /* the text is within the limits */
    KF_EV_UNDERSTOOD, /* `understood` */
    KF_EV_WRITTEN     /* `written`: the decoder has ended, well or not */
} kf_dialogue_event_kind;

typedef struct kf_dialogue_event {
    kf_dialogue_event_kind kind;
    const kf_understanding *understood; /* lives as long as the dialogue */
    struct {
        kf_str text; /* lives as long as the dialogue */
        kf_finish finish;
    } written;
} kf_dialogue_event;

typedef struct kf_dialogue_in {
    const kf_policy *policy;
    kf_arena *arena; /* for the texts that are composed here */
    kf_str text;
    const kf_turn *history; /* [n_history], oldest first */
    size_t n_history;
    bool reply_wanted; /* false: understanding alone */
    bool can_write;    /* there is a decoder */
} kf_dialogue_in;

typedef struct kf_dialogue {
    kf_dialogue_in in;
    kf_dialogue_state state;
    const kf_understanding *understood;
    /* the outcome, complete when KF_DO_FINISH comes */
    kf_str reply;
    kf_finish finish;
    kf_handoff handoff;
} kf_dialogue;

void kf_dialogue_begin(kf_dialogue *d, const kf_dialogue_in *in);

/* Returns the wants. An event that this state does not expect is a caller's bug: the dialogue ends as failed. */
unsigned kf_dialogue_step(kf_dialogue *d, const kf_dialogue_event *e);

#endif
