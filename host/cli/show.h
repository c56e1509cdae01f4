/* A Response for people, and for programs. */
#ifndef KF_CLI_SHOW_H
#define KF_CLI_SHOW_H

#include <stdbool.h>
#include <stdio.h>

#include "base/status.h"
#include "kefu.pb-c.h"

/* Everything that the worker found and wrote, aligned, one thing a line; the reply may be left out where it has been
 * shown already. seconds: from sending to the final. */
void kf_show_response(FILE *to, const Kefu__V1__Response *r, bool with_reply, double seconds);

/* "purchase 0.97 · neutral · product 羽绒服": the understanding in one line, for chat. */
void kf_show_brief(FILE *to, const Kefu__V1__Response *r);

/* One line of JSON, protobuf's mapping, as the worker itself writes it. KF_ERR_NO_MEMORY; KF_ERR_IO. */
kf_status kf_show_json(const Kefu__V1__Response *r);

/* KF_EXIT_OK, or KF_EXIT_FAILED where status is not OK. */
int kf_show_exit_code(const Kefu__V1__Response *r);

#endif
