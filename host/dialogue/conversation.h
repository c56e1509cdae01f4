/* What a conversation is made of: its turns, what was understood of the last one, how a reply ended and when a person
 * takes over. serve/job.h carries these in a request and a response; dialogue/ decides over them and knows no more.
 */
#ifndef KF_DIALOGUE_CONVERSATION_H
#define KF_DIALOGUE_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UTF-8, valid, without NUL; both NUL-terminated and counted. */
typedef struct kf_str {
    const char *s; /* "" when unset, never NULL after wire */
    size_t n;      /* bytes */
} kf_str;

typedef enum kf_role { KF_ROLE_USER, KF_ROLE_ASSISTANT, KF_ROLE_AGENT } kf_role;

typedef struct kf_turn {
    kf_role role;
    kf_str text;
} kf_turn;

typedef struct kf_label {
    const char *label; /* the model's, lives as long as the model */
    float score;
    int32_t start, end; /* code points; 0, 0 where the label has no span */
} kf_label;

typedef struct kf_word {
    kf_str text;
    const char *pos;
    bool stop_word;
    int32_t start, end;
} kf_word;

typedef struct kf_entity {
    const char *type;
    kf_str text, value; /* value: normalised (digits half-width …), "" where it is the text */
    int32_t start, end;
    float score;
} kf_entity;

typedef struct kf_understanding {
    kf_word *words;
    size_t n_words;
    kf_label *intents; /* best first */
    size_t n_intents;
    kf_label sentiment;
    kf_entity *entities; /* in order of start */
    size_t n_entities;
    float confidence; /* the first intent's score, lowered where the text is noise */
} kf_understanding;

typedef enum kf_finish {
    KF_FINISH_NONE,
    KF_FINISH_STOP,
    KF_FINISH_LENGTH,
    KF_FINISH_CANCELLED,
    KF_FINISH_FAILED
} kf_finish;

/* Why a person takes over. */
typedef enum kf_handoff_reason {
    KF_HANDOFF_NONE, /* nobody has to */
    KF_HANDOFF_ASKED,
    KF_HANDOFF_COMPLAINT,
    KF_HANDOFF_LOW_CONFIDENCE,
    KF_HANDOFF_NO_REPLY,     /* what was written may not be sent */
    KF_HANDOFF_NO_DECODER,   /* this worker only understands */
    KF_HANDOFF_AGENT_HAS_IT, /* a colleague wrote last */
    KF_HANDOFF_OTHER,
    KF_N_HANDOFFS
} kf_handoff_reason;

/* "asked", "no_reply" …, as a client reads it; "" for none. */
const char *kf_handoff_name(kf_handoff_reason reason);

typedef struct kf_handoff {
    kf_handoff_reason reason;
    kf_str summary; /* for the person who takes over; redacted */
} kf_handoff;

#endif
