# SPDX-License-Identifier: Apache-2.0
# Quire: make, make run, make test, make image. `make help` lists all.
#
# Everything is built below build/. Sources are found by folder, so a new file needs no line here.
# A unit test tests/unit/test_X.c names the kernel files it is built with in a line
#   // sources: lib/format.c mm/chunk.c

B := build
CC := gcc
NASM := nasm
MAKEFLAGS += --no-print-directory
JOBS := $(shell nproc)
# For calls of make anew: as many jobs as there are processors, unless the caller has said how many.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

ROOMS := arch/x86_64 lib mm pgm vmx svm vm dev monitor
C_SOURCES := $(wildcard $(foreach r,$(ROOMS),$r/*.c $r/*/*.c)) $(filter-out boot/efi%,$(wildcard boot/*.c))
ASM_SOURCES := $(wildcard $(foreach r,$(ROOMS),$r/*.asm $r/*/*.asm)) $(wildcard boot/*.asm)
ASM_SOURCES := $(filter-out boot/efi%,$(ASM_SOURCES))
OBJECTS := $(C_SOURCES:%.c=$(B)/%.o) $(ASM_SOURCES:%.asm=$(B)/%.asm.o)

WARN := -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter
DEBUG ?= 1
CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone -mgeneral-regs-only \
	-fno-strict-aliasing -fno-omit-frame-pointer -fstack-protector-strong -mstack-protector-guard=global \
	-fno-asynchronous-unwind-tables -fcf-protection=none -DQUIRE_DEBUG=$(DEBUG) $(WARN) -I. -I$(B) -MMD -MP
LDFLAGS := -T linker.ld -nostdlib -static -no-pie -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments

EFI_INC := /usr/include/efi
EFI_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fpic -fshort-wchar -mno-red-zone -fno-stack-protector \
	-fno-strict-aliasing -fcf-protection=none -fno-asynchronous-unwind-tables -maccumulate-outgoing-args -DGNU_EFI_USE_MS_ABI \
	-Wall -Wextra -Werror -Wno-unused-parameter \
	-I. -I$(EFI_INC) -I$(EFI_INC)/x86_64 -MMD -MP
# Kernel files that the UEFI program has a second build of, with its own flags.
EFI_SHARED := lib/ini.c
EFI_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard boot/efi*.c)) $(B)/boot/efi_kernel.o $(EFI_SHARED:%.c=$(B)/efi/%.o)

.PHONY: all built run test test-all test-unit image style clean help bench compile_commands setup unit-programs test-needs guests bench-needs mutants unit-flags

# What a person calls sets up first, and calls make anew: what setup installs wasn't there when this one began.
all: setup ## build the hypervisor
	@$(MAKE) $(PARALLEL) built

built: $(B)/BOOTX64.EFI $(B)/compile_commands.json

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS) -c $< -o $@

$(B)/%.asm.o: %.asm
	@mkdir -p $(@D)
	@echo "  NASM  $<"
	@$(NASM) -f elf64 -g -F dwarf -I./ -MD $(@:.o=.d) -MP -o $@ $<

$(B)/boot/efi%.o: boot/efi%.c
	@mkdir -p $(@D)
	@echo "  CC    $< (UEFI)"
	@$(CC) $(EFI_CFLAGS) -c $< -o $@

$(B)/efi/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $< (UEFI)"
	@$(CC) $(EFI_CFLAGS) -c $< -o $@

$(B)/kernel.elf: $(OBJECTS) linker.ld
	@echo "  LD    $@"
	@ld $(LDFLAGS) -o $@ $(OBJECTS)
	@objcopy --strip-debug $@ $(B)/kernel.stripped

# ACPI bytecode of the guests' DSDT, and of an SSDT with a device for each processor; all of these have the same length (-oi).
ACPI_HEX := $(B)/vm/load/dsdt.hex $(B)/vm/load/processors.hex
$(B)/vm/load/processors.asl: Makefile
	@mkdir -p $(@D)
	@seq 0 63 | awk 'BEGIN { print "DefinitionBlock (\"\", \"SSDT\", 2, \"QUIRE\", \"QUIRE\", 1) {" } \
		{ printf "Device (\\_SB.C%03d) { Name (_HID, \"ACPI0007\") Name (_UID, %d) }\n", $$1, $$1 } END { print "}" }' >$@
$(B)/vm/load/dsdt.hex: vm/load/dsdt.asl
	@mkdir -p $(@D)
	@iasl -oa -p $(B)/vm/load/dsdt -tc $< >$(B)/vm/load/dsdt.log 2>&1 || { cat $(B)/vm/load/dsdt.log; exit 1; }
$(B)/vm/load/processors.hex: $(B)/vm/load/processors.asl
	@iasl -oi -p $(B)/vm/load/processors -tc $< >$(B)/vm/load/processors.log 2>&1 || { cat $(B)/vm/load/processors.log; exit 1; }
$(B)/vm/load/acpi.o $(B)/unit/obj/vm/load/acpi.o $(B)/unit/tsan/vm/load/acpi.o: $(ACPI_HEX)

# The kernel's image and the default configuration, carried inside the UEFI program.
$(B)/boot/efi_kernel.o: boot/efi_kernel.asm $(B)/kernel.elf boot/default.conf
	@mkdir -p $(@D)
	@$(NASM) -f elf64 -I./ -I$(B)/ -o $@ $<

$(B)/BOOTX64.EFI: $(EFI_OBJECTS)
	@echo "  EFI   $@"
	@ld -nostdlib -znocombreloc -T /usr/lib/elf_x86_64_efi.lds -shared -Bsymbolic -z noexecstack --no-warn-rwx-segments \
		/usr/lib/crt0-efi-x86_64.o $(EFI_OBJECTS) -L/usr/lib -lgnuefi -lefi $$($(CC) -print-libgcc-file-name) -o $(B)/boot.so
	@objcopy -j .text -j .sdata -j .data -j .rodata -j .dynamic -j .dynsym -j .rel -j .rela -j .rel.* -j .rela.* -j .reloc \
		--target efi-app-x86_64 --subsystem=10 $(B)/boot.so $@

-include $(shell find $(B) -type f -name '*.d' 2>/dev/null)

$(B)/compile_commands.json: Makefile $(C_SOURCES)
	@mkdir -p $(B)
	@{ echo '['; sep=''; for f in $(C_SOURCES); do \
		printf '%s{"directory":"%s","file":"%s","command":"$(CC) $(CFLAGS) -c %s"}' "$$sep" "$(CURDIR)" $$f $$f; sep=','; \
		done; echo ']'; } > $@ && ln -sf $@ compile_commands.json

# ---- tests ----
UNIT := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(wildcard tests/unit/common/*.c)
SANITIZE ?= -fsanitize=address,undefined -fno-sanitize-recover=undefined
UNIT_CFLAGS := -std=gnu11 -O1 -g -fno-omit-frame-pointer -DQUIRE_DEBUG=1 -Wall -Wextra -Wno-unused-parameter -Werror -I. -I$(B) -Itests/unit

# TSan variants: a test whose first lines have "// threads" is built a second time under the thread sanitizer.
TSAN := $(patsubst tests/unit/%.c,$(B)/unit/%.tsan,$(shell grep -ls '^// threads' tests/unit/test_*.c))

# What is built with mm's frames runs in both host modes.
UNIT_MM := $(foreach f,$(shell grep -lsE '^// sources:.* mm/(\*|secret_free)\.c' tests/unit/test_*.c),\
	$(filter $(f:tests/unit/%.c=$(B)/unit/%) $(f:tests/unit/%.c=$(B)/unit/%).tsan,$(UNIT) $(TSAN)))

# Each kernel file is compiled once for all the tests that name it, once more for those under TSan.
$(B)/unit/obj/%.o: %.c
	@mkdir -p $(@D)
	@$(CC) $(UNIT_CFLAGS) $(SANITIZE) -MMD -MP -c $< -o $@

$(B)/unit/tsan/%.o: %.c
	@mkdir -p $(@D)
	@$(CC) $(UNIT_CFLAGS) -fsanitize=thread -Wno-tsan -MMD -MP -c $< -o $@

.SECONDEXPANSION:
.SECONDARY:
unit_sources = tests/unit/$(1).c $(UNIT_COMMON) $(wildcard $(shell sed -n 's|^// sources:||p' tests/unit/$(1).c 2>/dev/null))
unit_objects = $(patsubst %.c,$(B)/unit/$(2)/%.o,$(filter %.c,$(call unit_sources,$(1))))

$(B)/unit/test_%.tsan: $$(call unit_objects,test_$$*,tsan)
	@echo "  UNIT  $@"
	@$(CC) -fsanitize=thread -o $@ $(filter %.o,$^) -lcmocka -lpthread

$(B)/unit/test_%: $$(call unit_objects,test_$$*,obj)
	@echo "  UNIT  $@"
	@$(CC) $(SANITIZE) -o $@ $(filter %.o,$^) -lcmocka -lpthread

# vm/load/acpi.c includes what iasl makes.
$(B)/unit/test_load $(B)/fuzz/fuzz_loader $(B)/unit/fuzz_loader: $(ACPI_HEX)

test-unit: setup ## unit tests only (host build, sanitizers)
	@$(MAKE) $(PARALLEL) unit-programs
	@for t in $(UNIT) $(TSAN); do echo "== $$t"; ./$$t 2>$$t.log || { cat $$t.log; exit 1; }; done
	@for t in $(REPLAYS); do echo "== $$t"; ./$$t tests/fuzz/corpus/$${t#$(B)/unit/fuzz_}/* 2>$$t.log || { cat $$t.log; exit 1; }; done
	@for t in $(UNIT_MM); do echo "== $$t, secret-free"; QUIRE_MAPPING=secret-free ./$$t 2>$$t.log || { cat $$t.log; exit 1; }; done

# A fuzz target over its seeds: one that no longer builds, and a seed that fails again, are seen without clang.
REPLAYS := $(patsubst tests/fuzz/%.c,$(B)/unit/%,$(wildcard tests/fuzz/fuzz_*.c))
replay_objects = $(patsubst %.c,$(B)/unit/obj/%.o,tests/fuzz/$(1).c tests/fuzz/replay.c $(wildcard $(call fuzz_sources,$(1))))
$(B)/unit/fuzz_%: $$(call replay_objects,fuzz_$$*)
	@echo "  UNIT  $@"
	@$(CC) $(SANITIZE) -o $@ $(filter %.o,$^) -lcmocka -lpthread
$(B)/unit/obj/tests/fuzz/%.o: UNIT_CFLAGS += -Wno-unused-function

unit-programs: $(UNIT) $(TSAN) $(REPLAYS)

# For tests/mutants/kill.py: how unit tests are compiled, and what one of them is linked from.
unit-flags:
	@echo $(UNIT_CFLAGS) $(SANITIZE)
objects-of-test_%:
	@echo $(call unit_objects,test_$*,obj)

mutants: setup ## wrong edits of the kernel's files, each of which a named unit test must see; MUTANTS="-k flush"
	@$(MAKE) $(PARALLEL) unit-programs
	@tests/mutants/kill.py -j $(JOBS) $(MUTANTS)

# What the tests run on; built with all cores, then tested two at a time.
test-needs: setup
	@$(MAKE) $(PARALLEL) built unit-programs guests $(B)/OVMF-slim.fd

test: test-needs ## unit tests and the main boot tests; TESTS=pattern chooses, TEST_JOBS=n at a time
	@tools/test -m "not slow" $(if $(TESTS),-k "$(TESTS)")

test-all: test-needs ## every test
	@tools/setup --slow
	@tools/test $(if $(TESTS),-k "$(TESTS)")

# ---- running ----
setup: ## install from Debian what is missing
	@tools/setup

$(B)/OVMF-slim.fd: tools/repack-ovmf $(wildcard /usr/share/ovmf/OVMF.fd)
	@mkdir -p $(B)
	@tools/repack-ovmf $@

MACHINE ?= qemu
CPUS ?= 2
run: setup ## boot two Linux machines; CONFIG=file FILES="a b" MEM=MiB CPUS=n MACHINE=qemu|bochs
	@$(MAKE) $(PARALLEL) built $(B)/OVMF-slim.fd
	@tools/run --machine $(MACHINE) --cpus $(CPUS) $(if $(MEM),--memory $(MEM)) $(if $(CONFIG),--config $(CONFIG)) $(FILES)

image: all ## make OUT=my.img from CONFIG=my.conf FILES="a b c" (path or path:name)
	@[ -n "$(CONFIG)" ] && [ -n "$(OUT)" ] || { echo 'usage: make image CONFIG=my.conf FILES="a b c" OUT=my.img' >&2; exit 2; }
	@tools/mkimage --config "$(CONFIG)" --out "$(OUT)" $(FILES)

# ---- fuzzing: build/fuzz/fuzz_X is tests/fuzz/fuzz_X.c with its sources; its seeds are tests/fuzz/corpus/X ----
fuzz_sources = $(shell sed -n 's|^// sources:||p' tests/fuzz/$(1).c)

$(B)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $$(call fuzz_sources,fuzz_$$*)
	@mkdir -p $(@D)
	@echo "  FUZZ  $@"
	@clang $(UNIT_CFLAGS) -Wno-unused-function -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $(filter %.c,$^) \
		$(shell sed -n 's|^// flags:||p' $<)

# ---- small guests: tests/guests/X.c, with X.asm if there is one, is build/guests/X.elf (multiboot 1).
# A folder tests/guests/X is one in 64-bit mode: all its files are X.elf. ----
GUEST_FOLDERS := $(filter-out common,$(notdir $(patsubst %/,%,$(dir $(wildcard tests/guests/*/*.c)))))
GUESTS := $(patsubst tests/guests/%.c,$(B)/guests/%.elf,$(wildcard tests/guests/*.c)) $(patsubst %,$(B)/guests/%.elf,$(sort $(GUEST_FOLDERS)))
GUEST_COMMON := $(patsubst %,$(B)/guests/common/%.o,entry.asm print.c runtime.c timer.c traps.c)
GUEST64_COMMON := $(patsubst %,$(B)/guests64/common/%.o,entry64.asm print.c runtime.c timer.c traps64.c)
# Only for those that start other processors.
GUEST_SMP := $(B)/guests/common/smp.a
GUEST64_SMP := $(B)/guests64/common/smp.a
GUEST_CFLAGS := -std=gnu11 -O2 -g0 -ffreestanding -fno-pic -fno-pie -mgeneral-regs-only \
	-fno-strict-aliasing -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-tree-loop-distribute-patterns \
	-Wall -Wextra -Werror -Wno-unused-parameter -Itests/guests/common -MMD -MP
.SECONDARY:

guests: $(GUESTS) ## the small guests of the boot tests, and the benchmark's

$(B)/guests/%.c.o: tests/guests/%.c
	@mkdir -p $(@D)
	@$(CC) -m32 -march=i686 $(GUEST_CFLAGS) -c $< -o $@

$(B)/guests64/%.c.o: tests/guests/%.c
	@mkdir -p $(@D)
	@$(CC) -m64 -mno-red-zone $(GUEST_CFLAGS) -c $< -o $@

$(B)/guests64/%.asm.o: tests/guests/%.asm
	@mkdir -p $(@D)
	@$(NASM) -f elf64 -o $@ $<

$(B)/guests/%.asm.o: tests/guests/%.asm
	@mkdir -p $(@D)
	@$(NASM) -f elf32 -Itests/guests/common/ -o $@ $<

%/common/smp.a: %/common/smp.asm.o %/common/smp.c.o
	@rm -f $@
	@ar rcs $@ $^

guest_assembly = $(patsubst tests/guests/%,$(B)/guests/%.o,$(wildcard tests/guests/$(1).asm))
$(B)/guests/%.elf: $(B)/guests/%.c.o $(GUEST_COMMON) $(GUEST_SMP) tests/guests/common/guest.ld $$(call guest_assembly,$$*)
	@echo "  GUEST $@"
	@ld -m elf_i386 -nostdlib -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments -T tests/guests/common/guest.ld \
		-o $@ $(filter %.o,$^) $(filter %.a,$^)

guest_folder = $(patsubst tests/guests/%,$(B)/guests64/%.o,$(wildcard tests/guests/$(1)/*.c tests/guests/$(1)/*.asm))
# Multiboot loaders want the form of 32 bits.
$(patsubst %,$(B)/guests/%.elf,$(sort $(GUEST_FOLDERS))): $(B)/guests/%.elf: $(GUEST64_COMMON) $(GUEST64_SMP) tests/guests/common/guest.ld $$(call guest_folder,$$*)
	@echo "  GUEST $@"
	@mkdir -p $(@D)
	@ld -m elf_x86_64 -nostdlib -z max-page-size=4096 -z noexecstack --no-warn-rwx-segments -T tests/guests/common/guest.ld \
		-o $@.64 $(filter %.o,$^) $(filter %.a,$^)
	@objcopy -O elf32-i386 $@.64 $@

# ---- a program for Linux as a hypervisor in Quire (tests/boot/test_nested.py), with the guest that it runs ----
$(B)/linux/%.bin: tests/linux/%.asm
	@mkdir -p $(@D)
	@$(NASM) -f bin -o $@ $<

$(B)/linux/kvmtest: L2 := $(B)/linux/l2.bin
$(B)/linux/kvmsmp: L2 := $(B)/linux/l2smp.bin
$(B)/linux/kvmtest $(B)/linux/kvmsmp: $(B)/linux/%: tests/linux/%.c $(B)/linux/l2.bin $(B)/linux/l2smp.bin
	@echo "  LINUX $@"
	@$(CC) -static -pthread -O2 -Wall -Wextra -Werror -s -DL2_BINARY='"$(L2)"' -o $@ $<

# ---- the benchmark: Quire and Linux KVM run the same guest on the same emulators ----
$(B)/bench/linux_loader.efi: tools/bench/linux_loader.c
	@mkdir -p $(@D)
	@$(CC) $(EFI_CFLAGS) -c $< -o $(@:.efi=.o)
	@ld -nostdlib -znocombreloc -T /usr/lib/elf_x86_64_efi.lds -shared -Bsymbolic -z noexecstack --no-warn-rwx-segments \
		/usr/lib/crt0-efi-x86_64.o $(@:.efi=.o) -L/usr/lib -lgnuefi -lefi -o $(@:.efi=.so)
	@objcopy -j .text -j .sdata -j .data -j .rodata -j .dynamic -j .dynsym -j .rel -j .rela -j .rel.* -j .rela.* -j .reloc \
		--target efi-app-x86_64 --subsystem=10 $(@:.efi=.so) $@

$(B)/bench/kvm $(B)/bench/ksm: $(B)/bench/%: tools/bench/%.c tools/bench/multiboot.h
	@mkdir -p $(@D)
	@$(CC) -static -O2 -Wall -Wextra -Werror -s -o $@ $<

bench-needs: $(B)/bench/linux_loader.efi $(B)/bench/kvm $(B)/bench/ksm $(B)/guests/bench.elf $(B)/guests/hyper.elf $(B)/guests/overcommit.elf $(B)/OVMF-slim.fd
	@$(MAKE) B=$(B)/release DEBUG=0 $(B)/release/BOOTX64.EFI

bench: setup ## what exits and first touches cost, beside Linux KVM; BENCH="--only svm --keep" (tools/bench/bench --help)
	@$(MAKE) $(PARALLEL) bench-needs
	@tools/bench/bench $(BENCH)

# ---- style ----
style: setup ## the tree against its own rules, in figures; FULL=1 adds cppcheck and clang-tidy
	@$(MAKE) $(PARALLEL) $(B)/kernel.elf
	@tools/style $(if $(FULL),--lint)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

clean: ## remove build/
	@rm -rf $(B) compile_commands.json
