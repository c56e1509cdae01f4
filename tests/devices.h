/* Whether a device that a test names is there. A build for one device (KF_ONLY_DEVICE) leaves the others to programs of
 * their own: the .cu files on the CPU (tests/cuda_on_cpu), or a machine with a GPU (tests/gpu). */
#ifndef KF_TESTS_DEVICES_H
#define KF_TESTS_DEVICES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "device/device.h"

/* `name` is what the test calls this device with these options; a device that is not there is said so. */
static inline bool device_there(const char *name, const char *device, const kf_device_opts *o) {
    kf_device *d;
#ifdef KF_ONLY_DEVICE
    if (strcmp(device, KF_ONLY_DEVICE) != 0) return false;
#endif
    kf_status s = kf_device_open(device, o, &d);
    if (s == KF_OK) kf_device_close(d);
    if (s != KF_OK) print_message("[ LEFT OUT ] %s: %s\n", name, kf_error_text());
    return s == KF_OK;
}

#endif
