# The sandbox helper: C source in sandbox/internal/helper/src, built by one pinned
# toolchain that gives the same bytes on every host.
#   make -f sandbox.mk helper          build the committed binaries
#   make -f sandbox.mk helper-verify   build again elsewhere and compare
ZIG_VERSION := 0.17.0
ZIG_DIR     := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lm-sandbox/ziglang-$(ZIG_VERSION)
ZIG         := $(ZIG_DIR)/ziglang/zig
HELPER_DIR  := sandbox/internal/helper
HELPER_SRC  := $(sort $(wildcard $(HELPER_DIR)/src/*.c))
HELPER_HDR  := $(sort $(wildcard $(HELPER_DIR)/src/*.h))
HELPER_ARCH := amd64 arm64
HELPER_CFLAGS := -Os -static -s -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror

zig_target_amd64 := x86_64-linux-musl
zig_target_arm64 := aarch64-linux-musl

.PHONY: helper helper-verify helper-analyze
helper: $(HELPER_ARCH:%=$(HELPER_DIR)/helper_%)

$(ZIG):
	@command -v python3 >/dev/null || { echo "python3 with pip is needed to fetch ziglang $(ZIG_VERSION)" >&2; exit 1; }
	python3 -m pip install --quiet --no-deps --target $(ZIG_DIR) ziglang==$(ZIG_VERSION)

$(HELPER_DIR)/helper_%: $(HELPER_SRC) $(HELPER_HDR) | $(ZIG)
	cd $(HELPER_DIR)/src && $(ZIG) cc -target $(zig_target_$*) $(HELPER_CFLAGS) $(notdir $(HELPER_SRC)) -o ../helper_$*

# A copy in another directory shows that no path gets into the bytes.
helper-verify: | $(ZIG)
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && mkdir $$dir/src && cp $(HELPER_SRC) $(HELPER_HDR) $$dir/src/ && \
	for arch in $(HELPER_ARCH); do \
		$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) HELPER_DIR=$$dir $$dir/helper_$$arch >/dev/null || exit 1; \
		cmp $$dir/helper_$$arch $(HELPER_DIR)/helper_$$arch || \
		{ echo "helper_$$arch is not what its source gives: run 'make helper' and commit" >&2; exit 1; }; \
		echo "helper_$$arch: the same bytes"; \
	done

# For hosts whose AppArmor policy names the programs that may make user namespaces; as root.
HELPER_PATH ?= /usr/libexec/lm-sandbox-helper
.PHONY: install-helper
install-helper: ## install the sandbox's helper at HELPER_PATH, with an AppArmor profile
	bin/lm-sandbox doctor --install-helper=$(HELPER_PATH)

# It looks at code as it is compiled: with -fsyntax-only it would see nothing.
helper-analyze:
	@for f in $(HELPER_SRC); do \
		gcc -fanalyzer -c -o /dev/null -O1 -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror $$f || exit 1; done
