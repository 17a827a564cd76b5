// What the C library keeps of memory that was freed.
#include "shim_internal.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace lm {

// glibc has an arena for each thread that allocates and keeps in each what was freed at its end: up to twice the largest block
// that was ever freed, which after a model is tens of megabytes. Here it is one, and what is larger is never kept. Somebody
// who has set this himself (mallopt(3)) keeps his settings.
void keep_little() {
#ifdef __GLIBC__
    for (const char * own : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}) {
        if (getenv(own) != nullptr) {
            return;
        }
    }
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

void give_back() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

} // namespace lm
