/* The terminal: colours only where someone sees them, columns by display width, a progress line on stderr.
 *
 *     kf_term_colour(stdout);                     // false in a pipe, with NO_COLOR set, on a dumb terminal
 *     fprintf(stdout, "%sintent%s", kf_style(stdout, KF_BOLD), kf_style(stdout, KF_PLAIN));
 *
 *     kf_progress p = {.label = "eval", .total = n};
 *     kf_progress_show(&p, done, kf_clock_now_ns(), "accuracy 0.91");     // draws at most ten times a second
 *     kf_progress_clear(&p);
 *
 * Text from outside is printed through kf_term_text, so that no reply can move the cursor.
 */
#ifndef KF_CLI_TERM_H
#define KF_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum kf_term_style {
    KF_PLAIN,
    KF_BOLD,
    KF_DIM,
    KF_GREEN,
    KF_YELLOW,
    KF_RED,
    KF_CYAN,
    KF_N_STYLES
} kf_term_style;

bool kf_term_colour(FILE *f);

/* The escape sequence for a style, "" where colours are off. */
const char *kf_style(FILE *f, kf_term_style style);

/* Columns that valid UTF-8 takes on a terminal: 2 for a Chinese character. */
size_t kf_term_width(const char *text);

/* Prints text and spaces up to `columns`. */
void kf_term_pad(FILE *f, const char *text, size_t columns);

/* Prints text of someone else's; control characters other than \n and \t become U+FFFD. */
void kf_term_text(FILE *f, const char *text);

typedef struct kf_progress {
    const char *label;
    uint64_t total;   /* 0: the end is not known; only what is done and `note` are shown */
    int64_t drawn_ns; /* of the last drawing; 0: none yet */
} kf_progress;

/* Draws the line where stderr is a terminal and 100 ms have passed since the last time. note: what is worth seeing. */
void kf_progress_show(kf_progress *p, uint64_t done, int64_t now_ns, const char *note);

/* Takes the line away. */
void kf_progress_clear(kf_progress *p);

#endif
