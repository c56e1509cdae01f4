/* The few shapes of svg.h. */
#include "cli/svg.h"

#include <errno.h>
#include <string.h>

static const char style[] =
    "<style>\n"
    "svg{background:#fff;font:12px system-ui,sans-serif;--ink:#1f2328;--dim:#656d76;--grid:#d8dee4;--c0:#0969da;"
    "--c1:#bc4c00;--c2:#1a7f37}\n"
    "@media(prefers-color-scheme:dark){svg{background:#0d1117;--ink:#e6edf3;--dim:#8d96a0;--grid:#30363d;--c0:#58a6ff;"
    "--c1:#f0883e;--c2:#3fb950}}\n"
    "text{fill:var(--dim)}.title{fill:var(--ink);font-weight:600;font-size:14px}.label{text-anchor:end}\n"
    ".axis{text-anchor:middle}.cell{fill:var(--ink);text-anchor:middle;font-size:10px}.key{fill:var(--ink)}\n"
    "line{stroke:var(--grid)}polyline{fill:none;stroke-width:1.8;stroke-linejoin:round}\n"
    "polyline.c0{stroke:var(--c0)}polyline.c1{stroke:var(--c1)}polyline.c2{stroke:var(--c2)}\n"
    "rect.c0{fill:var(--c0)}rect.c1{fill:var(--c1)}rect.c2{fill:var(--c2)}\n"
    "</style>\n";

static void put_escaped(FILE *f, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (strchr("<>&\"'", c))
            fprintf(f, "&#%d;", c);
        else if (c >= 0x20 && c != 0x7F)
            fputc(c, f);
    }
}

kf_status kf_svg_open(const char *path, double width, double height, const char *title, kf_svg *out) {
    FILE *f = fopen(path, "we");
    if (!f) return KF_FAIL(KF_ERR_IO, "--plot %s: cannot be written: %s", path, strerror(errno));
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
            "role=\"img\">\n<title>",
            width, height, width, height);
    put_escaped(f, title);
    fprintf(f, "</title>\n%s", style);
    *out = (kf_svg){.f = f, .path = path};
    return KF_OK;
}

kf_status kf_svg_close(kf_svg *s) {
    fputs("</svg>\n", s->f);
    bool failed = ferror(s->f);
    failed |= fclose(s->f) == EOF;
    return failed ? KF_FAIL(KF_ERR_IO, "--plot %s: not all of it could be written", s->path) : KF_OK;
}

void kf_svg_text(kf_svg *s, double x, double y, const char *cls, const char *text) {
    fprintf(s->f, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", cls, x, y);
    put_escaped(s->f, text);
    fputs("</text>\n", s->f);
}

void kf_svg_line(kf_svg *s, double x0, double y0, double x1, double y1, const char *cls) {
    fprintf(s->f, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", cls, x0, y0, x1, y1);
}

void kf_svg_area(kf_svg *s, double x, double y, double width, double height, const char *cls, double opacity) {
    fprintf(
        s->f,
        "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\" fill-opacity=\"%.3f\"/>\n",
        cls, x, y, width, height, opacity);
}

void kf_svg_curve(kf_svg *s, const double (*points)[2], size_t n, const char *cls) {
    fprintf(s->f, "<polyline class=\"%s\" points=\"", cls);
    for (size_t i = 0; i < n; i++)
        fprintf(s->f, "%s%.1f,%.1f", i ? " " : "", points[i][0], points[i][1]);
    fputs("\"/>\n", s->f);
}
