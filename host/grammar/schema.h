/* JSON schema to an automaton whose texts are JSON that the schema allows. Some of what it allows, not all:
 *
 *  - compact JSON; one space may follow a colon or a comma. A string has one spelling: UTF-8, and the shortest escape
 * of what must be escaped. U+0000 is in none.
 *  - an object's members come in the order of `properties`, those of additionalProperties (a schema or true; left out
 *    means none) after them, and may come more than once.
 *  - whole numbers have at most 18 digits, others at most 15 after the point and two in an exponent.
 *  - a $ref inside itself is followed KF_SCHEMA_NESTING_MAX times at most, and values that a schema says nothing about
 *    nest as deep: fewer times where the automaton would be too large.
 *  - oneOf is read as anyOf.
 *
 * Keywords: type, enum, const, properties, required, additionalProperties, items, prefixItems, minItems, maxItems,
 * pattern, format (date, time, date-time, uuid, email, ipv4), minLength, maxLength, minimum, maximum, exclusiveMinimum,
 * exclusiveMaximum (whole bounds), anyOf, oneOf, allOf of one, $ref to #/…, $defs, and what only describes. Others are
 * refused with their name and place. Internal to host/grammar.
 */
#ifndef KF_GRAMMAR_SCHEMA_H
#define KF_GRAMMAR_SCHEMA_H

#include <jansson.h>

#include "grammar/nfa.h"

enum { KF_SCHEMA_NESTING_MAX = 5, KF_SCHEMA_BYTES_MAX = 65536 };

/* The state that begins a value of the schema with at most `nesting` values in one another as said above.
 * KF_NFA_NONE with n->status: KF_ERR_INVALID: no schema, or one that nothing meets; KF_ERR_UNSUPPORTED: a keyword;
 * KF_ERR_TOO_LARGE. *nests, written in any case: less nesting makes a smaller automaton. */
int32_t kf_schema_build(kf_nfa *n, const json_t *root, unsigned nesting, bool *nests);

#endif
