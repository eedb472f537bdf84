/*
 * What compilers make of ordinary C: numerics, strings, sorting, hashes, bit tricks. compiled.spec.ts builds it in several ways, runs each
 * program on the processor and in the core, and compares the results. It needs no library: it leaves its results in `results` and halts,
 * or (with NATIVE) writes them to standard output and exits.
 */
#include <stdint.h>
#ifdef __SSE4_2__
#include <nmmintrin.h>
#endif

#define RESULTS 512
uint64_t results[RESULTS];
static unsigned used;

static void put(uint64_t value) {
  if (used < RESULTS) results[used++] = value;
}
static void put_double(double value) {
  union { double d; uint64_t u; } bits = {value};
  put(bits.u);
}
static void put_float(float value) {
  union { float f; uint32_t u; } bits = {value};
  put(bits.u);
}

/* The compiler calls these by name. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n) {
  char *t = to;
  const char *f = from;
  for (__SIZE_TYPE__ i = 0; i < n; i++) t[i] = f[i];
  return to;
}
void *memset(void *to, int value, __SIZE_TYPE__ n) {
  char *t = to;
  for (__SIZE_TYPE__ i = 0; i < n; i++) t[i] = (char)value;
  return to;
}

static uint32_t state = 12345;
static uint32_t next(void) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

#define N 259
static float f1[N], f2[N], f3[N];
static double d1[N], d2[N], d3[N];
static int32_t i1[N], i2[N], i3[N];
static uint8_t b1[N], b2[N], b3[N];
static int16_t s1[N], s2[N], s3[N];

static void fill(void) {
  for (int i = 0; i < N; i++) {
    f1[i] = (float)(int32_t)next() / 65536.0f;
    f2[i] = (float)(next() >> 8) * 0.001f + 1.0f;
    d1[i] = (double)(int32_t)next() / 1e6;
    d2[i] = 1.0 / (1.0 + (next() & 1023));
    i1[i] = (int32_t)next();
    i2[i] = (int32_t)next() >> 12;
    b1[i] = (uint8_t)next();
    b2[i] = (uint8_t)next();
    s1[i] = (int16_t)next();
    s2[i] = (int16_t)next();
  }
}

static void checksum(const void *from, unsigned bytes) {
  const uint8_t *p = from;
  uint32_t a = 1, b = 0;
  for (unsigned i = 0; i < bytes; i++) {
    a = (a + p[i]) % 65521;
    b = (b + a) % 65521;
  }
  put(((uint64_t)b << 16) | a);
}

static void vectors(void) {
  for (int i = 0; i < N; i++) f3[i] = f1[i] * f2[i] + f1[i] / f2[i];
  checksum(f3, sizeof f3);
  for (int i = 0; i < N; i++) d3[i] = d1[i] > d2[i] ? d1[i] - d2[i] : d2[i] * d1[i];
  checksum(d3, sizeof d3);
  for (int i = 0; i < N; i++) d3[i] = __builtin_sqrt(d2[i]);
  checksum(d3, sizeof d3);
  for (int i = 0; i < N; i++) i3[i] = (int32_t)f1[i] + (int32_t)d1[i];
  checksum(i3, sizeof i3);
  for (int i = 0; i < N; i++) f3[i] = (float)i1[i] + (float)d1[i];
  checksum(f3, sizeof f3);
  for (int i = 0; i < N; i++) d3[i] = (double)i2[i] * (double)f2[i];
  checksum(d3, sizeof d3);
  for (int i = 0; i < N; i++) i3[i] = i1[i] * i2[i] + (i1[i] >> 3) - (i2[i] << 2);
  checksum(i3, sizeof i3);
  for (int i = 0; i < N; i++) i3[i] = i1[i] < i2[i] ? i1[i] : i2[i];
  checksum(i3, sizeof i3);
  for (int i = 0; i < N; i++) b3[i] = (uint8_t)((b1[i] + b2[i] + 1) >> 1);
  checksum(b3, sizeof b3);
  for (int i = 0; i < N; i++) b3[i] = b1[i] > b2[i] ? b1[i] - b2[i] : 0;
  checksum(b3, sizeof b3);
  for (int i = 0; i < N; i++) s3[i] = (int16_t)((s1[i] * s2[i]) >> 16);
  checksum(s3, sizeof s3);
  for (int i = 0; i < N; i++) {
    int sum = s1[i] + s2[i];
    s3[i] = (int16_t)(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
  }
  checksum(s3, sizeof s3);
  int32_t total = 0;
  for (int i = 0; i < N; i++) total += s1[i] * s2[i];
  put((uint32_t)total);
  uint32_t difference = 0;
  for (int i = 0; i < N; i++) difference += (uint32_t)(b1[i] > b2[i] ? b1[i] - b2[i] : b2[i] - b1[i]);
  put(difference);
  uint64_t wide = 0;
  for (int i = 0; i < N; i++) wide += (uint64_t)(uint32_t)i1[i] * (uint32_t)i2[i];
  put(wide);
  float top = f1[0];
  for (int i = 1; i < N; i++) top = f1[i] > top ? f1[i] : top;
  put_float(top);
  double sum = 0;
  for (int i = 0; i < N; i++) sum += d1[i] * d2[i];
  put_double(sum);
}

static void matrices(void) {
  static double a[16][16], b[16][16], c[16][16];
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      a[i][j] = d1[i * 16 + j];
      b[i][j] = d2[j * 16 + i];
    }
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      double s = 0;
      for (int k = 0; k < 16; k++) s += a[i][k] * b[k][j];
      c[i][j] = s;
    }
  checksum(c, sizeof c);
}

/* A series, Newton's method, an orbit: long chains of rounding. */
static void series(void) {
  double term = 1, e = 1;
  for (int i = 1; i < 25; i++) {
    term /= i;
    e += term;
  }
  put_double(e);
  float x = 2;
  for (int i = 0; i < 12; i++) x = (x + 2.0f / x) * 0.5f;
  put_float(x);
  double p = 1, v = 0;
  for (int i = 0; i < 1000; i++) {
    v -= p * 0.01;
    p += v * 0.01;
  }
  put_double(p);
  put_double(v);
  unsigned inside = 0;
  for (int row = 0; row < 24; row++)
    for (int column = 0; column < 24; column++) {
      double cr = column / 8.0 - 2, ci = row / 8.0 - 1.5, zr = 0, zi = 0;
      int n = 0;
      while (n < 50 && zr * zr + zi * zi < 4) {
        double t = zr * zr - zi * zi + cr;
        zi = 2 * zr * zi + ci;
        zr = t;
        n++;
      }
      inside += (unsigned)n;
    }
  put(inside);
  volatile double zero = 0;
  put_double(1 / zero);
  put_double(-zero);
  put((uint64_t)(zero / zero == zero / zero));
  put((uint64_t)(int64_t)(e * -1e15));
  put((uint32_t)(e * 1e9));
  put_float((float)(uint32_t)0xfffffeff);
  /* Extended precision: the x87, whatever the rest uses. */
  long double h = 0;
  for (int i = 1; i < 200; i++) h += 1.0L / i;
  put_double((double)h);
  union { long double l; uint64_t u[2]; } bits = {h * h - 1};
  put(bits.u[0]);
  put(bits.u[1] & 0xffff);
  put((uint64_t)(int64_t)(h * 1e15L));
}

static void sort(int32_t *from, int to) {
  int i = 0, j = to;
  int32_t pivot = from[to / 2];
  while (i <= j) {
    while (from[i] < pivot) i++;
    while (from[j] > pivot) j--;
    if (i <= j) {
      int32_t t = from[i];
      from[i++] = from[j];
      from[j--] = t;
    }
  }
  if (j > 0) sort(from, j);
  if (i < to) sort(from + i, to - i);
}

static const char TEXT[] =
    "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs, and how vexingly quick daft zebras jump!";

static void strings(void) {
  unsigned counts[26] = {0};
  for (const char *p = TEXT; *p; p++) {
    char c = (char)(*p | 32);
    if (c >= 'a' && c <= 'z') counts[c - 'a']++;
  }
  checksum(counts, sizeof counts);
  char copy[256];
  memset(copy, '.', sizeof copy);
  memcpy(copy + 3, TEXT, sizeof TEXT);
  for (int i = 0, j = 130; i < j; i++, j--) {
    char t = copy[i];
    copy[i] = copy[j];
    copy[j] = t;
  }
  checksum(copy, sizeof copy);
  uint32_t hash = 2166136261u;
  for (const char *p = TEXT; *p; p++) hash = (hash ^ (uint8_t)*p) * 16777619u;
  put(hash);
#ifdef __SSE4_2__
  /* The first character of a set, sixteen at a time. */
  static const char SET[16] = ",;!";
  const __m128i set = _mm_loadu_si128((const __m128i *)SET);
  for (unsigned at = 0; at < sizeof TEXT - 16; at += 16) {
    const __m128i part = _mm_loadu_si128((const __m128i *)(TEXT + at));
    put((uint64_t)_mm_cmpistri(set, part, _SIDD_CMP_EQUAL_ANY));
  }
  uint32_t crc = ~0u;
  for (const char *p = TEXT; *p; p++) crc = _mm_crc32_u8(crc, (uint8_t)*p);
  put(crc);
#endif
}

static void run(void) {
  fill();
  vectors();
  matrices();
  series();
  int32_t list[N];
  memcpy(list, i1, sizeof list);
  sort(list, N - 1);
  checksum(list, sizeof list);
  strings();
  put(used);
}

#ifdef NATIVE
static long call(long number, long a, long b, long c) {
  long result;
#ifdef __x86_64__
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
#endif
  return result;
}
#ifdef __x86_64__
enum { WRITE = 1, EXIT = 60 };
#else
enum { WRITE = 4, EXIT = 1 };
#endif
#endif

__attribute__((noreturn, used)) static void start(void) {
  run();
#ifdef NATIVE
  call(WRITE, 1, (long)results, sizeof results);
  call(EXIT, 0, 0, 0);
#else
  __asm__ volatile("hlt");
#endif
  for (;;) {}
}
/* The stack is aligned as the ABI wants it at a call. */
#ifdef __x86_64__
__asm__(".globl _start\n_start:\n  and $-16, %rsp\n  call start\n");
#else
__asm__(".globl _start\n_start:\n  and $-16, %esp\n  call start\n");
#endif
