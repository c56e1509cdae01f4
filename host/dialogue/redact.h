/* Personal data out of a text: what a colleague, a log or a trace may see of a customer's words. */
#ifndef KF_DIALOGUE_REDACT_H
#define KF_DIALOGUE_REDACT_H

#include "base/arena.h"
#include "dialogue/conversation.h"

/* Masks entities of the types phone, order_id, address and person as "[phone]" …, then runs of seven or more digits
 * (half- or full-width, Chinese numerals, with blanks and hyphens inside) as "[number]" and words with an @ as
 * "[mail]". entities: [n_entities], spans of `text` in code points. Longer results than max_chars code points are cut
 * and end in "…". False where the arena has no room: *out is then untouched. */
bool kf_redact(kf_arena *arena, kf_str text, const kf_entity *entities, size_t n_entities, size_t max_chars,
               kf_str *out);

/* For the person who takes over: intent, mood, what was named, the redacted text, and how many turns went before. The
 * earlier turns themselves stay out: nothing has looked for addresses in them. "" where the arena has no room. */
void kf_handoff_summary(kf_arena *arena, kf_str text, const kf_understanding *u, size_t n_history, kf_str *out);

#endif
