/* The arrows between the rooms go down, never up: the design's table of what a room may touch, against the #include
 * lines of every file of host/. A room always may touch itself and base. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define EVERYTHING "observe text grammar device model dialogue serve proto wire transport kefud cli "

static const struct room {
    const char *name, *may_touch; /* names, a blank after each */
} rooms[] = {
    {"base", ""},
    {"text", ""},
    {"grammar", "text "},
    {"observe", ""},
    {"device", ""},
    {"model", "device text "},
    {"dialogue", "text "},
    {"serve", "dialogue model device grammar text observe "},
    {"wire", "proto serve text "},
    {"transport", "wire serve observe "},
    {"kefud", EVERYTHING},
    {"cli", EVERYTHING},
};

/* The room of an included file of ours into out; false for a line that includes none. */
static int included_room(const char *line, char out[64]) {
    char path[256];
    if (sscanf(line, "#include \"%255[^\"]\"", path) != 1) return 0;
    if (!strcmp(path, "kefu.pb-c.h")) strcpy(path, "proto/"); /* generated */
    return sscanf(path, "%63[^/]/", out) == 1 && strchr(path, '/') != NULL;
}

static int may_touch(const struct room *room, const char *other) {
    char listed[128], word[72];
    if (!strcmp(other, room->name) || !strcmp(other, "base")) return 1;
    snprintf(listed, sizeof listed, " %s", room->may_touch);
    snprintf(word, sizeof word, " %s ", other);
    return strstr(listed, word) != NULL;
}

static size_t check_file(const struct room *room, const char *path) {
    char line[512], other[64];
    size_t n_wrong = 0;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (!included_room(line, other) || may_touch(room, other)) continue;
        print_error("%s: %s may not touch %s\n", path, room->name, other);
        n_wrong++;
    }
    fclose(f);
    return n_wrong;
}

/* Checks the .c and .h of a folder and of those in it; returns the wrong lines, and counts the files. */
static size_t check_folder(const struct room *room, const char *folder, size_t *n_files) {
    size_t n_wrong = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));) {
        char path[1024];
        const char *dot = strrchr(e->d_name, '.');
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_type == DT_DIR && e->d_name[0] != '.') n_wrong += check_folder(room, path, n_files);
        if (!dot || (strcmp(dot, ".c") && strcmp(dot, ".h"))) continue;
        n_wrong += check_file(room, path);
        ++*n_files;
    }
    closedir(dir);
    return n_wrong;
}

static void arrows_go_down(void **state) {
    (void)state;
    size_t n_wrong = 0, n_files = 0;
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s/host/%s", KF_SOURCE_DIR, rooms[i].name);
        n_wrong += check_folder(&rooms[i], folder, &n_files);
    }
    assert_true(n_files > 100);
    assert_int_equal(n_wrong, 0);
}

/* A new room is to be put into the table above. */
static void every_room_is_listed(void **state) {
    (void)state;
    DIR *dir = opendir(KF_SOURCE_DIR "/host");
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));) {
        size_t i = 0, n = sizeof rooms / sizeof *rooms;
        while (i < n && strcmp(rooms[i].name, e->d_name))
            i++;
        if (e->d_name[0] == '.' || i < n) continue;
        print_error("host/%s is in no line of test_rooms.c\n", e->d_name);
        fail();
    }
    closedir(dir);
}

static void the_check_sees_what_is_wrong(void **state) {
    (void)state;
    char other[64];
    const struct room transport = {"transport", "wire serve observe "};
    assert_true(included_room("#include \"kefu.pb-c.h\"\n", other) && !may_touch(&transport, other));
    assert_true(included_room("#include \"cli/cli.h\"\n", other) && !may_touch(&transport, other));
    assert_true(included_room("#include \"wire/json.h\"\n", other) && may_touch(&transport, other));
    assert_true(included_room("#include \"serve/job.h\"\n", other) && may_touch(&transport, other));
    assert_false(may_touch(&(struct room){"text", "observe "}, other));
    assert_false(included_room("#include <wire/json.h>\n", other));
    assert_false(included_room("#include \"golden.h\"\n", other));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrows_go_down),
        cmocka_unit_test(every_room_is_listed),
        cmocka_unit_test(the_check_sees_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
