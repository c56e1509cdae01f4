/* The names of conversation.h's numbers. */
#include "dialogue/conversation.h"

static const char *const handoff_names[KF_N_HANDOFFS] = {
    [KF_HANDOFF_NONE] = "",
    [KF_HANDOFF_ASKED] = "asked",
    [KF_HANDOFF_COMPLAINT] = "complaint",
    [KF_HANDOFF_LOW_CONFIDENCE] = "low_confidence",
    [KF_HANDOFF_NO_REPLY] = "no_reply",
    [KF_HANDOFF_NO_DECODER] = "no_decoder",
    [KF_HANDOFF_AGENT_HAS_IT] = "agent_has_it",
    [KF_HANDOFF_OTHER] = "other",
};

const char *kf_handoff_name(kf_handoff_reason reason) {
    return handoff_names[reason];
}
