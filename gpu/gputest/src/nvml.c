// A library that answers like NVIDIA's libnvidia-ml.so.1 (nvml.h), for a machine that a text file describes: a line is
// a key, a space, a value. The file is read at each call, so that a test can change the machine. STATE is its path.
//
// Compiled with -DWITH_NVML_H it takes its types and prototypes from NVIDIA's header, so that the compiler compares.

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WITH_NVML_H
#define NVML_NO_UNVERSIONED_FUNC_DEFS 1
#include "nvml.h"
#else
typedef int nvmlReturn_t;
typedef int nvmlEnableState_t;
typedef int nvmlComputeMode_t;
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; } nvmlProcessInfo_v1_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gpuInstanceId, computeInstanceId; } nvmlProcessInfo_v2_t;
typedef nvmlProcessInfo_v2_t nvmlProcessInfo_t;
typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;
enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
};
#endif

// A handle: a GPU, or a MIG instance of it.
struct nvmlDevice_st { int gpu, part; };

enum { GPUS = 16, PARTS = 7 };

static struct nvmlDevice_st handles[GPUS][PARTS + 1];
static int users;

// find copies the value of the key that format makes; it says whether there is one.
__attribute__((format(printf, 3, 4)))
static int find(char *value, size_t size, const char *format, ...)
{
    char key[128], line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(key, sizeof key, format, args);
    va_end(args);
    size_t n = strlen(key);
    int found = 0;
    FILE *f = fopen(STATE, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, n) == 0 && line[n] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, size, "%s", line + n + 1);
            found = 1;
        }
    }
    if (f)
        fclose(f);
    return found;
}

// state is what a call returns unless it does its work: the code that the file wants, or that nvmlInit was forgotten.
static nvmlReturn_t state(const char *function, nvmlDevice_t d)
{
    char code[16];
    if (d && d->part == 0 && find(code, sizeof code, "%d.return.%s", d->gpu, function))
        return atoi(code);
    if (find(code, sizeof code, "return.%s", function))
        return atoi(code);
    return users > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

// text copies a property of a device.
static nvmlReturn_t text(const char *function, nvmlDevice_t d, const char *key, char *value, unsigned int size)
{
    nvmlReturn_t r = state(function, d);
    if (r != NVML_SUCCESS)
        return r;
    int found = d->part ? find(value, size, "%d.part%d.%s", d->gpu, d->part - 1, key) : find(value, size, "%d.%s", d->gpu, key);
    return found ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

static nvmlReturn_t number(const char *function, nvmlDevice_t d, const char *key, unsigned long long *value)
{
    char s[32];
    nvmlReturn_t r = text(function, d, key, s, sizeof s);
    if (r == NVML_SUCCESS)
        *value = strtoull(s, NULL, 10);
    return r;
}

static nvmlReturn_t unsigned_number(const char *function, nvmlDevice_t d, const char *key, unsigned int *value)
{
    unsigned long long n = 0;
    nvmlReturn_t r = number(function, d, key, &n);
    if (r == NVML_SUCCESS)
        *value = (unsigned int)n;
    return r;
}

static nvmlReturn_t init(const char *function)
{
    char code[16];
    if (find(code, sizeof code, "return.%s", function))
        return atoi(code);
    users++;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit(void) { return init("nvmlInit"); }
nvmlReturn_t nvmlInit_v2(void) { return init("nvmlInit_v2"); }

nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t r = state("nvmlShutdown", NULL);
    if (r == NVML_SUCCESS)
        users--;
    return r;
}

const char *nvmlErrorString(nvmlReturn_t code)
{
    static char names[1000][24];
    if (code < 0 || code > 999)
        return "no such code";
    snprintf(names[code], sizeof names[code], "fake error %d", code);
    return names[code];
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    nvmlReturn_t r = state(__func__, NULL);
    if (r == NVML_SUCCESS && !find(version, length, "driver"))
        r = NVML_ERROR_NOT_SUPPORTED;
    return r;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    char s[16];
    nvmlReturn_t r = state(__func__, NULL);
    if (r == NVML_SUCCESS && !find(s, sizeof s, "cuda"))
        r = NVML_ERROR_NOT_SUPPORTED;
    if (r == NVML_SUCCESS)
        *version = atoi(s);
    return r;
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
    nvmlReturn_t r = state(__func__, NULL);
    if (r == NVML_SUCCESS && !find(name, length, "process%u", pid))
        r = NVML_ERROR_NOT_FOUND;
    return r;
}

static nvmlReturn_t count(const char *function, unsigned int *n)
{
    char s[16];
    nvmlReturn_t r = state(function, NULL);
    if (r == NVML_SUCCESS)
        *n = find(s, sizeof s, "count") ? (unsigned int)atoi(s) : 0;
    return r;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *n) { return count(__func__, n); }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n) { return count(__func__, n); }

static nvmlReturn_t handle(const char *function, unsigned int index, nvmlDevice_t *d)
{
    unsigned int n;
    nvmlReturn_t r = count("count", &n);
    if (r != NVML_SUCCESS)
        return r;
    if (index >= n || index >= GPUS)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (int part = 0; part <= PARTS; part++)
        handles[index][part] = (struct nvmlDevice_st){(int)index, part};
    *d = &handles[index][0];
    return state(function, *d);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int i, nvmlDevice_t *d) { return handle(__func__, i, d); }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) { return handle(__func__, i, d); }

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *name, unsigned int length) { return text(__func__, d, "name", name, length); }
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *uuid, unsigned int length) { return text(__func__, d, "uuid", uuid, length); }
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t d, unsigned int *n) { return unsigned_number(__func__, d, "minor", n); }
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned int *n) { return unsigned_number(__func__, d, "parts", n); }
nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t d, unsigned int *n) { return unsigned_number(__func__, d, "gi", n); }
nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t d, unsigned int *n) { return unsigned_number(__func__, d, "ci", n); }

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor)
{
    char s[16];
    nvmlReturn_t r = text(__func__, d, "cc", s, sizeof s);
    if (r == NVML_SUCCESS && sscanf(s, "%d.%d", major, minor) != 2)
        r = NVML_ERROR_NOT_SUPPORTED;
    return r;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *m)
{
    unsigned long long total = 0, free = 0, used = 0;
    nvmlReturn_t r = number(__func__, d, "total", &total);
    if (r == NVML_SUCCESS)
        r = number(__func__, d, "free", &free);
    if (r == NVML_SUCCESS)
        r = number(__func__, d, "used", &used);
    if (r == NVML_SUCCESS) {
        m->total = total;
        m->free = free;
        m->used = used;
    }
    return r;
}

static nvmlReturn_t pci(const char *function, nvmlDevice_t d, nvmlPciInfo_t *p)
{
    char s[40];
    nvmlReturn_t r = text(function, d, "bus", s, sizeof s);
    if (r == NVML_SUCCESS && sscanf(s, "%x:%x:%x", &p->domain, &p->bus, &p->device) != 3)
        r = NVML_ERROR_NOT_SUPPORTED;
    return r;
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t d, nvmlPciInfo_t *p) { return pci(__func__, d, p); }
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t d, nvmlPciInfo_t *p) { return pci(__func__, d, p); }
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *p) { return pci(__func__, d, p); }

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, nvmlComputeMode_t *mode)
{
    unsigned int n = 0;
    nvmlReturn_t r = unsigned_number(__func__, d, "mode", &n);
    *mode = n;
    return r;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *u) { return unsigned_number(__func__, d, "utilization", &u->gpu); }

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending)
{
    nvmlReturn_t r = unsigned_number(__func__, d, "mig", current);
    if (r == NVML_SUCCESS)
        r = unsigned_number(__func__, d, "pending", pending);
    return r;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned int index, nvmlDevice_t *part)
{
    char s[8];
    nvmlReturn_t r = state(__func__, d);
    if (r != NVML_SUCCESS)
        return r;
    if (index >= PARTS || !find(s, sizeof s, "%d.part%u.name", d->gpu, index))
        return NVML_ERROR_NOT_FOUND;
    *part = &handles[d->gpu][index + 1];
    return NVML_SUCCESS;
}

// processes fills in "PID:BYTES PID:BYTES…". As in the real library too little room gives the number that is needed.
static nvmlReturn_t processes(const char *function, nvmlDevice_t d, const char *key, unsigned int *n, void *infos, size_t size)
{
    char list[512] = "";
    unsigned int room = *n, found = 0;
    nvmlReturn_t r = text(function, d, key, list, sizeof list);
    if (r != NVML_SUCCESS)
        return r;
    for (char *next, *s = strtok_r(list, " ", &next); s; s = strtok_r(NULL, " ", &next)) {
        nvmlProcessInfo_v1_t p = {0};
        if (sscanf(s, "%u:%llu", &p.pid, &p.usedGpuMemory) != 2)
            continue;
        if (found < room)
            memcpy((char *)infos + found * size, &p, sizeof p); // the later versions begin with the first
        found++;
    }
    *n = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define PROCESSES(function, key, type) \
    nvmlReturn_t function(nvmlDevice_t d, unsigned int *n, type *infos) { return processes(__func__, d, key, n, infos, sizeof *infos); }

PROCESSES(nvmlDeviceGetComputeRunningProcesses, "compute", nvmlProcessInfo_v1_t)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "compute", nvmlProcessInfo_v2_t)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute", nvmlProcessInfo_t)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, "graphics", nvmlProcessInfo_v1_t)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics", nvmlProcessInfo_v2_t)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics", nvmlProcessInfo_t)
