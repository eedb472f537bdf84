/*
 * Executes single instructions (or short sequences) on the real processor in user mode and reports what they did.
 *
 * stdin:  struct header, the initial memory image, header.count cases, header.states FXSAVE images.  stdout: header.count outcomes, as many
 * images.  All little-endian; the layout is that of layout.ts.  The runner enters a case by returning from a signal handler with the case's registers and gets back through
 * the next signal: the single-step trap, an INT3 behind the code, or the fault that the code raised.
 *
 * Build: gcc -O2 -fno-stack-protector -Wl,-z,now.  After setup nothing here may use thread-local storage: FS base belongs to the case.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define CODE 0x10000000UL
#define CODE_BYTES (2 * PAGE)
#define DATA 0x20000000UL
#define DATA_BYTES (2 * PAGE)
#define READONLY 0x20003000UL
#define STACK 0x30000000UL
#define FS_BASE (DATA + 0x123)
#define GS_BASE (DATA + 0x456)
#define TF 0x100
#define NT 0x4000
#define AC 0x40000
#define ID 0x200000

struct header {
  uint32_t magic, count, states, unused;
  uint8_t data[DATA_BYTES], readonly[PAGE], stack[PAGE];
};

struct poke {
  uint32_t address, bytes;
  uint64_t value;
};

struct one_case {
  uint8_t mode;    /* 0: 64-bit code, 1: 32-bit code, 2: 16-bit code */
  uint8_t step;    /* 1: stop after one instruction (TF), 0: at the INT3 behind the code */
  uint8_t length;  /* of bytes[] */
  uint8_t pokes;
  uint32_t at;     /* offset of the code in the code pages */
  uint32_t rflags;
  uint32_t fx;     /* 1 + number of the image of its x87, MMX and SSE state, 0: none */
  uint32_t blank, blank_bytes; /* memory that is not compared */
  uint64_t regs[16];
  uint8_t bytes[64];
  struct poke poke[4];
};

struct word {
  uint32_t address, value;
};

/* Of an FXSAVE image: what holds state (the kernel keeps records in the rest). */
#define FX_BYTES 416
#define WORDS 12
struct outcome {
  uint32_t trap;     /* vector; 0x100 if the code ran to its end */
  uint32_t changed;  /* 32-bit words of writable memory that differ from the image */
  uint64_t error, cr2, rip, rflags;
  uint64_t regs[16];
  uint32_t hash, unused;
  struct word word[WORDS];
};

static struct header head;
static struct one_case *cases;
static struct outcome *outcomes;
static uint8_t (*images)[FX_BYTES];
static uint8_t fresh[FX_BYTES];  /* after FNINIT */
static uint32_t current;
static int started, used, base_instructions;
static uint8_t *code;  /* writable alias of the code pages */
static uint64_t own_fs;
static uint8_t alternate_stack[1 << 18] __attribute__((aligned(64)));

static const int REGISTER[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static long raw_syscall(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

static void fail(const char *what) {
  raw_syscall(SYS_write, 2, (long)what, strlen(what));
  raw_syscall(SYS_exit_group, 1, 0, 0);
}

static void write_all(const void *from, size_t length) {
  const char *at = from;
  while (length) {
    long n = raw_syscall(SYS_write, 1, (long)at, length);
    if (n <= 0) fail("runner: cannot write\n");
    at += n;
    length -= n;
  }
}

static void read_all(void *to, size_t length) {
  char *at = to;
  while (length) {
    ssize_t n = read(0, at, length);
    if (n <= 0) fail("runner: input ends early\n");
    at += n;
    length -= n;
  }
}

/* Notes what differs between `at` and its image, and undoes it. */
static void changes(struct outcome *o, uint64_t at, const uint8_t *image, size_t bytes) {
  for (size_t page = 0; page < bytes; page += PAGE) {
    if (!memcmp((void *)(at + page), image + page, PAGE)) continue;
    uint32_t *now = (uint32_t *)(at + page);
    const uint32_t *was = (const uint32_t *)(image + page);
    for (size_t i = 0; i < PAGE / 4; i++) {
      if (now[i] == was[i]) continue;
      uint32_t address = (uint32_t)(at + page + i * 4);
      if (o->changed < WORDS) o->word[o->changed] = (struct word){address, now[i]};
      o->changed++;
      o->hash = (o->hash ^ address) * 16777619u;
      o->hash = (o->hash ^ now[i]) * 16777619u;
      now[i] = was[i];
    }
  }
}

static void finish(const struct one_case *c, struct outcome *o, const greg_t *g, const void *fx) {
  uint64_t end = (c->mode == 2 ? 0 : CODE) + c->at + c->length;
  o->trap = (uint32_t)g[REG_TRAPNO];
  o->error = g[REG_ERR];
  o->cr2 = g[REG_CR2];
  o->rip = g[REG_RIP];
  o->rflags = g[REG_EFL];
  for (int i = 0; i < 16; i++) o->regs[i] = g[REGISTER[i]];
  if (c->step && o->trap == 1) o->trap = 0x100;
  if (!c->step && o->trap == 3 && o->rip >= end && o->rip <= end + 2) {
    o->trap = 0x100;
    o->rip--;
  }
  if (c->fx) memcpy(images[c->fx - 1], fx, FX_BYTES);
  if (c->blank_bytes) {
    const uint8_t *image = c->blank < STACK ? head.data + (c->blank - DATA) : head.stack + (c->blank - STACK);
    memcpy((void *)(uint64_t)c->blank, image, c->blank_bytes);
  }
  o->hash = 2166136261u;
  changes(o, DATA, head.data, DATA_BYTES);
  changes(o, STACK, head.stack, PAGE);
}

static void load_data_segments(uint16_t ds, uint16_t es) {
  __asm__ volatile("mov %0, %%ds; mov %1, %%es" : : "r"((uint32_t)ds), "r"((uint32_t)es));
}

static void begin(const struct one_case *c, greg_t *g, void *fx) {
  static const uint16_t CS[3] = {0x33, 0x23, 0x07}, SS[3] = {0x2b, 0x2b, 0x1f};
  memset(code, 0xcc, CODE_BYTES);
  for (uint32_t i = 0; i < c->length && c->at + i < CODE_BYTES; i++) code[c->at + i] = c->bytes[i];
  for (int i = 0; i < c->pokes; i++) memcpy((void *)(uint64_t)c->poke[i].address, &c->poke[i].value, c->poke[i].bytes);
  for (int i = 0; i < 16; i++) g[REGISTER[i]] = c->regs[i];
  g[REG_RIP] = (c->mode == 2 ? 0 : CODE) + c->at;
  g[REG_EFL] = c->rflags | (c->step ? TF : 0);
  g[REG_CSGSFS] = (g[REG_CSGSFS] & 0x0000ffffffff0000) | CS[c->mode] | ((uint64_t)SS[c->mode] << 48);
  /* The frame has an XSAVE image: its header behind the 512 bytes must say that x87 and SSE state is there. */
  if (c->fx || used) {
    memcpy(fx, c->fx ? images[c->fx - 1] : fresh, FX_BYTES);
    *(uint64_t *)((char *)fx + 512) |= 3;
  }
  used = c->fx != 0;
  if (c->mode == 2) load_data_segments(0x0f, 0x17);
  else load_data_segments(0x2b, 0x2b);
}

/* Sets AC, NT and ID here and now. The return from a signal handler leaves NT and ID alone, so the next case gets what is set last. */
static inline void set_own_flags(uint64_t flags) {
  uint64_t all;
  __asm__ volatile("pushfq; popq %0" : "=r"(all) : : "memory");
  all = (all & ~(uint64_t)(AC | NT | ID)) | flags;
  __asm__ volatile("pushq %0; popfq" : : "r"(all) : "memory", "cc");
}

/* What WRFSBASE and WRGSBASE of a case may have changed. */
static void restore_bases(void) {
  if (base_instructions)
    __asm__ volatile("wrfsbase %0; wrgsbase %1" : : "r"((uint64_t)FS_BASE), "r"((uint64_t)GS_BASE));
}

static void on_signal(int signal, siginfo_t *info, void *context) {
  set_own_flags(0); /* The case may have left AC set: no misaligned access before this. */
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  void *fx = ((ucontext_t *)context)->uc_mcontext.fpregs;
  (void)signal;
  (void)info;
  if (started) {
    finish(&cases[current], &outcomes[current], g, fx);
    current++;
  }
  started = 1;
  if (current == head.count) {
    raw_syscall(SYS_arch_prctl, ARCH_SET_FS, own_fs, 0);
    write_all(outcomes, sizeof(struct outcome) * head.count);
    write_all(images, FX_BYTES * (size_t)head.states);
    raw_syscall(SYS_exit_group, 0, 0, 0);
  }
  restore_bases();
  begin(&cases[current], g, fx);
  set_own_flags(cases[current].rflags & (NT | ID));
}

static void map(uint64_t at, size_t bytes, int protection, int fd) {
  int flags = MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  if (mmap((void *)at, bytes, protection, flags, fd, 0) != (void *)at) fail("runner: cannot map the fixed addresses\n");
}

static void segment(int entry, uint32_t base, uint32_t limit, int contents) {
  struct user_desc d = {.entry_number = entry, .base_addr = base, .limit = limit, .contents = contents, .useable = 1};
  if (syscall(SYS_modify_ldt, 0x11, &d, sizeof d)) fail("runner: modify_ldt failed\n");
}

int main(void) {
  read_all(&head, sizeof head);
  if (head.magic != 0x4e41544eu) fail("runner: wrong magic\n");
  cases = malloc(sizeof(struct one_case) * head.count);
  outcomes = calloc(head.count + 1, sizeof(struct outcome));
  images = calloc(head.states + 1, FX_BYTES);
  if (!cases || !outcomes || !images) fail("runner: out of memory\n");
  read_all(cases, sizeof(struct one_case) * head.count);
  read_all(images, FX_BYTES * (size_t)head.states);
  *(uint16_t *)fresh = 0x37f;
  *(uint32_t *)(fresh + 24) = 0x1f80;

  int fd = memfd_create("code", 0);
  if (fd < 0 || ftruncate(fd, CODE_BYTES)) fail("runner: no memory for code\n");
  map(CODE, CODE_BYTES, PROT_READ | PROT_EXEC, fd);
  code = mmap(0, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  map(DATA, DATA_BYTES, PROT_READ | PROT_WRITE, -1);
  map(READONLY, PAGE, PROT_READ | PROT_WRITE, -1);
  map(STACK, PAGE, PROT_READ | PROT_WRITE, -1);
  memcpy((void *)DATA, head.data, DATA_BYTES);
  memcpy((void *)READONLY, head.readonly, PAGE);
  memcpy((void *)STACK, head.stack, PAGE);
  mprotect((void *)READONLY, PAGE, PROT_READ);

  /* 16-bit code: CS, DS, ES, SS. ES is shorter than DS so that the segments are told apart. */
  segment(0, CODE, CODE_BYTES - 1, MODIFY_LDT_CONTENTS_CODE);
  segment(1, DATA, DATA_BYTES - 1, MODIFY_LDT_CONTENTS_DATA);
  segment(2, DATA + 0x80, 0x17ff, MODIFY_LDT_CONTENTS_DATA);
  segment(3, STACK, PAGE - 1, MODIFY_LDT_CONTENTS_DATA);

  stack_t alternate = {.ss_sp = alternate_stack, .ss_size = sizeof alternate_stack};
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  const int signals[] = {SIGSEGV, SIGTRAP, SIGILL, SIGFPE, SIGBUS};
  sigaltstack(&alternate, 0);
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &action, 0);
  alarm(600);

  base_instructions = getauxval(AT_HWCAP2) >> 1 & 1;
  syscall(SYS_arch_prctl, ARCH_GET_FS, &own_fs);
  raw_syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE, 0);
  raw_syscall(SYS_arch_prctl, ARCH_SET_FS, FS_BASE, 0);
  __asm__ volatile("int3");
  return 1;
}
