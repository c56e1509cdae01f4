/* What a reply should be: written by the decoder, a question back, or none because a person has the conversation; and
 * whether a person is needed. A first, simple policy; its words and thresholds are data (DIR/policy.json).
 *
 *     {"ask_back_below": 0.25, "handoff_from": 0.5, "ask_back": "您是想{first}，还是想{second}呢？",
 *      "ask_back_about": "关于{thing}，", "bot_names": ["机器人"],
 *      "intents": {"purchase": {"title": "购买商品"}, "human_agent": {"title": "找人工客服", "handoff": "asked"}, …}}
 *
 * An intent without a title is never asked about. The policy is read-only after loading: any thread.
 */
#ifndef KF_DIALOGUE_POLICY_H
#define KF_DIALOGUE_POLICY_H

#include "base/arena.h"
#include "base/status.h"
#include "dialogue/conversation.h"

enum { KF_POLICY_MAX_INTENTS = 256, KF_POLICY_MAX_NAMES = 16 };

typedef struct kf_policy_intent {
    char *label, *title; /* title NULL: not asked about */
    kf_handoff_reason handoff;
} kf_policy_intent;

typedef struct kf_policy {
    double ask_back_below; /* confidence */
    double handoff_from;   /* score of an intent that wants a person */
    char *ask_back;        /* with {first} and after it {second}; NULL: never asks */
    char *about;           /* said first where the customer named a thing, with {thing}; NULL: nothing is */
    char *bot_names[KF_POLICY_MAX_NAMES];
    size_t n_bot_names;
    kf_policy_intent intents[KF_POLICY_MAX_INTENTS];
    size_t n_intents;
} kf_policy;

/* Reads PATH. Where there is no such file: the demo domain's reasons for a hand-off, and no questions back.
 * KF_ERR_CORRUPT names the field, or the key that nothing reads; KF_ERR_TOO_LARGE; KF_ERR_NO_MEMORY; KF_ERR_IO. */
kf_status kf_policy_load(const char *path, kf_policy *out);
void kf_policy_free(kf_policy *p);

typedef enum kf_move { KF_MOVE_WRITE, KF_MOVE_ASK_BACK, KF_MOVE_SILENT } kf_move;

typedef struct kf_decision {
    kf_move move;
    kf_handoff_reason handoff;
} kf_decision;

typedef struct kf_policy_in {
    kf_str text;
    const kf_turn *history;
    size_t n_history;
    const kf_understanding *understood;
    bool can_write;
} kf_policy_in;

/* In this order:
 *  - the last turn is a colleague's and the bot is not called by name: silent;
 *  - there is no decoder: silent, a person is needed;
 *  - the first intent wants a person (its own reason): written, with the hand-off;
 *  - low confidence: a question back; a second time in a row: written, and a person is needed;
 *  - else written. */
void kf_policy_decide(const kf_policy *p, const kf_policy_in *in, kf_decision *out);

/* The question back: the two best intents' titles in the policy's words, about the thing that the customer named, in
 * the customer's. False where there are not two titles, or no room in the arena. */
bool kf_policy_question(const kf_policy *p, kf_str text, const kf_understanding *u, kf_arena *arena, kf_str *out);

/* A written reply that may be sent: not blank, valid, and without the spelling of a control token. */
bool kf_policy_reply_ok(kf_str text);

#endif
