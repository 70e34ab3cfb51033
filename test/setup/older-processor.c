/*
 * Runs a process on the kernels that ONNX Runtime takes on older processors: hides AVX-512, VNNI and AMX from it. Run it
 * by hand, on Linux x64; CONTRIBUTING.md has the commands.
 *
 * Where the processor can (`grep cpuid_fault /proc/cpuinfo`), each CPUID instruction raises SIGSEGV. The handler runs the
 * real one and clears bits of its answer. Linux keeps this setting per thread, hands it to new threads and drops it on
 * execve, after which LD_PRELOAD loads this file again. Elsewhere, older-library.ts makes a copy of ONNX Runtime whose
 * CPUID instructions raise SIGILL.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* asm/prctl.h */
#define ARCH_SET_CPUID 0x1012
#define BIT(number) (1u << (number))

typedef int Sigaction(int, const struct sigaction *, struct sigaction *);
typedef int Mask(int, const sigset_t *, sigset_t *);

/* GRAFT_PROCESSOR: `avx2` (the default), `avx-vnni` (AVX2 and AVX-VNNI), or `avx512` (AVX-512 without VNNI). */
static int keeps_avx512, keeps_avx_vnni;

/* What the process wants of SIGSEGV. V8 wants it for WebAssembly. */
static struct sigaction theirs;

static void answer(greg_t *registers) {
  unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a = leaf, b, c = part, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (leaf == 7 && part == 0) {
    /* VNNI; 4VNNIW, 4FMAPS, VP2INTERSECT; AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8 */
    c &= ~BIT(11);
    d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
    if (!keeps_avx512) {
      /* F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VAES, VPCLMULQDQ, BITALG, VPOPCNTDQ */
      b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
      c &= ~(BIT(1) | BIT(6) | BIT(9) | BIT(10) | BIT(12) | BIT(14));
    }
  } else if (leaf == 7 && part == 1) {
    /* AVX512-BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10 */
    a &= ~(BIT(5) | BIT(21) | BIT(23));
    d &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));
    if (!keeps_avx_vnni) a &= ~BIT(4);
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
  /* The instruction has two bytes. */
  registers[REG_RIP] += 2;
}

static void handle(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  int saved = errno;
  /* The kernel raised it, so there is an instruction to read. */
  if (number == SIGSEGV && info->si_code == SI_KERNEL && memcmp((void *)registers[REG_RIP], "\x0f\xa2", 2) == 0) {
    answer(registers);
    errno = saved;
  } else if (number == SIGILL) {
    /* As older-library.ts marks it. */
    if (memcmp((void *)registers[REG_RIP], "\x06\xa2", 2) == 0) answer(registers);
    else signal(SIGILL, SIG_DFL);
    errno = saved;
  } else if (theirs.sa_flags & SA_SIGINFO) {
    theirs.sa_sigaction(number, info, context);
  } else if (theirs.sa_handler == SIG_DFL || theirs.sa_handler == SIG_IGN) {
    ((Sigaction *)dlsym(RTLD_NEXT, "sigaction"))(SIGSEGV, &theirs, NULL);
  } else {
    theirs.sa_handler(number);
  }
}

int sigaction(int number, const struct sigaction *wanted, struct sigaction *before) {
  if (number != SIGSEGV) return ((Sigaction *)dlsym(RTLD_NEXT, "sigaction"))(number, wanted, before);
  struct sigaction now = theirs;
  if (wanted != NULL) theirs = *wanted;
  if (before != NULL) *before = now;
  return 0;
}

/* A thread that blocks them would end the process at its next CPUID. */
static int unblocked(const char *name, int how, const sigset_t *set, sigset_t *before) {
  sigset_t without;
  if (set != NULL && how != SIG_UNBLOCK) {
    without = *set;
    sigdelset(&without, SIGSEGV);
    sigdelset(&without, SIGILL);
    set = &without;
  }
  return ((Mask *)dlsym(RTLD_NEXT, name))(how, set, before);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *before) {
  return unblocked("sigprocmask", how, set, before);
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *before) {
  return unblocked("pthread_sigmask", how, set, before);
}

static void fail(const char *why) {
  fprintf(stderr, "older-processor: %s\n", why);
  exit(1);
}

__attribute__((constructor)) static void start(void) {
  const char *processor = getenv("GRAFT_PROCESSOR");
  if (processor != NULL) {
    keeps_avx512 = strcmp(processor, "avx512") == 0;
    keeps_avx_vnni = strcmp(processor, "avx-vnni") == 0;
    if (!keeps_avx512 && !keeps_avx_vnni && strcmp(processor, "avx2") != 0)
      fail("GRAFT_PROCESSOR is avx2, avx-vnni or avx512");
  }
  /* An origin is started without its parent's GRAFT_ variables. */
  const char *library = getenv("OLDER_ONNXRUNTIME");
  if (library != NULL) setenv("GRAFT_ONNXRUNTIME", library, 1);
  struct sigaction ours;
  memset(&ours, 0, sizeof ours);
  ours.sa_sigaction = handle;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  Sigaction *next = (Sigaction *)dlsym(RTLD_NEXT, "sigaction");
  if (next(SIGSEGV, &ours, &theirs) != 0 || next(SIGILL, &ours, NULL) != 0) fail("signals cannot be handled");
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) != 0 && library == NULL)
    fail("CPUID cannot be trapped here, without cpuid_fault: set OLDER_ONNXRUNTIME to what older-library.ts makes");
}
