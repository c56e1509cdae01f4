/* A drawing as an SVG file that reads well on light and on dark: colours are classes, and the file's own style sheet
 * asks which the viewer has.
 *
 *     kf_svg s;
 *     KF_TRY(kf_svg_open("load.svg", 800, 400, "kefu bench", &s));
 *     kf_svg_text(&s, 20, 30, "title", "p50 12 ms");
 *     return kf_svg_close(&s);
 *
 * Lengths are pixels from the upper left corner. Classes: text: title, label (ends at x), axis (middle at x), cell
 * (middle at x), key; lines: grid, c0 … c2; areas: c0 … c2.
 */
#ifndef KF_CLI_SVG_H
#define KF_CLI_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

typedef struct kf_svg {
    FILE *f;
    const char *path;
} kf_svg;

/* KF_ERR_IO: the file cannot be written. path lives until kf_svg_close. */
kf_status kf_svg_open(const char *path, double width, double height, const char *title, kf_svg *out);

/* Ends the file, whatever was drawn. KF_ERR_IO: some of it could not be written. */
kf_status kf_svg_close(kf_svg *s);

/* Text of anybody's: marks of XML are escaped, control characters left out. */
void kf_svg_text(kf_svg *s, double x, double y, const char *cls, const char *text);
void kf_svg_line(kf_svg *s, double x0, double y0, double x1, double y1, const char *cls);
void kf_svg_area(kf_svg *s, double x, double y, double width, double height, const char *cls, double opacity);

/* A line through n points. */
void kf_svg_curve(kf_svg *s, const double (*points)[2], size_t n, const char *cls);

#endif
