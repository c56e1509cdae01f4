/* Colours, widths, and the progress line. */
#include "cli/term.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

bool kf_term_colour(FILE *f) {
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(f)) && !(no_color && *no_color) && !(term && !strcmp(term, "dumb"));
}

const char *kf_style(FILE *f, kf_term_style style) {
    static const char *const codes[KF_N_STYLES] = {
        [KF_PLAIN] = "\033[0m",   [KF_BOLD] = "\033[1m", [KF_DIM] = "\033[2m",   [KF_GREEN] = "\033[32m",
        [KF_YELLOW] = "\033[33m", [KF_RED] = "\033[31m", [KF_CYAN] = "\033[36m",
    };
    return kf_term_colour(f) ? codes[style] : "";
}

size_t kf_term_width(const char *text) {
    size_t columns = 0;
    utf8proc_int32_t cp;
    utf8proc_ssize_t n;
    while (*text && (n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &cp)) > 0) {
        int width = utf8proc_charwidth(cp);
        columns += width > 0 ? (size_t)width : 0;
        text += n;
    }
    return columns;
}

void kf_term_pad(FILE *f, const char *text, size_t columns) {
    kf_term_text(f, text);
    for (size_t used = kf_term_width(text); used < columns; used++)
        fputc(' ', f);
}

void kf_term_text(FILE *f, const char *text) {
    utf8proc_int32_t cp;
    while (*text) {
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &cp);
        bool control = n <= 0 || (cp < 0x20 && cp != '\n' && cp != '\t') || (cp >= 0x7F && cp < 0xA0);
        if (control)
            fputs("\xEF\xBF\xBD", f);
        else
            fwrite(text, 1, (size_t)n, f);
        text += n > 0 ? n : 1;
    }
}

enum { BAR_COLUMNS = 24, REDRAW_NS = 100000000 };

void kf_progress_show(kf_progress *p, uint64_t done, int64_t now_ns, const char *note) {
    if (!isatty(STDERR_FILENO) || (p->drawn_ns && now_ns - p->drawn_ns < REDRAW_NS)) return;
    p->drawn_ns = now_ns;
    fprintf(stderr, "\r\033[K%s ", p->label);
    if (p->total) {
        uint64_t shown = done < p->total ? done : p->total;
        size_t full = (size_t)((double)shown / (double)p->total * BAR_COLUMNS);
        fputc('[', stderr);
        for (size_t i = 0; i < BAR_COLUMNS; i++)
            fputc(i < full ? '#' : '.', stderr);
        fprintf(stderr, "] %3.0f%% ", (double)shown / (double)p->total * 100);
    }
    fputs(note, stderr);
    fflush(stderr);
}

void kf_progress_clear(kf_progress *p) {
    if (!p->drawn_ns) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn_ns = 0;
}
