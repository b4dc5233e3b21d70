/* picture.c -- pictures: stb_image (public domain) reads them, zlib writes them.
**
** stb_image looks at no CRC, nor at the sum of a PNG's pixels, and takes a JPEG that was cut off; so a
** file is walked through first, part by part, and its size held against its length before anything is
** made.
*/
#include "file/picture.h"

#include <string.h>

#include "file/file.h"
#include "file/zip.h"

static _Thread_local size_t
    wanted; /* bytes that were not to be had; stb_image's reasons are vague */

static void *stb_alloc(size_t n) {
  ctx c = {0};
  void *p = mg_alloc(&c, n);
  if (!p) wanted = n;
  return p;
}

static void *stb_realloc(void *p, size_t old, size_t n) {
  void *q = stb_alloc(n);
  if (q && p) memcpy(q, p, old < n ? old : n), mg_free(p);
  return q;
}

#define STBI_MALLOC(n) stb_alloc(n)
#define STBI_REALLOC_SIZED(p, old, n) stb_realloc(p, old, n)
#define STBI_FREE(p) mg_free(p)
#define STBI_ASSERT(x) ((void)0)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_SIMD
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
/* Names without arguments are the kernels that a JPEG is given: ours. */
static void (*const stbi__idct_block)(uint8_t *, int, short[64]) = jpeg_inverse;
static resample *const stbi__resample_row_v_2 = jpeg_rows;
static resample *const stbi__resample_row_h_2 = jpeg_columns;
static resample *const stbi__resample_row_hv_2 = jpeg_both;
static void (*const stbi__YCbCr_to_RGB_row)(uint8_t *, const uint8_t *, const uint8_t *,
                                            const uint8_t *, int, int) = jpeg_rgb;
#define stbi__idct_block(...) stb_inverse(__VA_ARGS__)
#define stbi__resample_row_v_2(...) stb_rows(__VA_ARGS__)
#define stbi__resample_row_h_2(...) stb_columns(__VA_ARGS__)
#define stbi__resample_row_hv_2(...) stb_both(__VA_ARGS__)
#define stbi__YCbCr_to_RGB_row(...) stb_rgb(__VA_ARGS__)

#pragma GCC diagnostic ignored "-Wunused-function" /* at the file's end */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

static const uint8_t SIGNATURE[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
static const char FLOATS[] = "moongrad\0floats 0..1"; /* a text in a PNG: keyword, value */

static uint32_t big32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = v >> (24 - 8 * i);
}

static bool early(ctx *c) { return fail(c, "it ends too early"); }
static bool damaged(ctx *c, const char *why) { return fail(c, "it is damaged: %s", why); }

static bool is_depth(int kind, int bits) { /* which bits a value may have, a bit for each */
  static const uint8_t of[] = {31, 0, 24, 15, 24, 0, 24};
  for (int k = 0; k < 5; k++)
    if (bits == 1 << k) return of[kind] >> k & 1;
  return false;
}

/* Chunks: length, name, data, CRC; the first says the size, the last that it is the last. One palette
** stands before all pixels, and nothing between these: stb_image would take another one, and any. */
static bool walk_png(ctx *c, const uint8_t *p, int64_t n, picture *x) {
  static const uint8_t channels[] = {1, 0, 3, 3, 2, 0, 4};
  bool late = false, pixels = false, over = false; /* a palette or pixels; they go on, or went */
  for (int64_t at = 8, length;; at += 12 + length) {
    if (n - at < 12) return early(c);
    length = big32(p + at);
    if (length > n - at - 12) return early(c);
    const uint8_t *name = p + at + 4, *data = name + 4;
    uint32_t crc = 0;
    if (!file_sum(c, &crc, name, length + 4)) return false;
    if (crc != big32(data + length)) return damaged(c, "a CRC differs");
    if ((at == 8) != (memcmp(name, "IHDR", 4) == 0)) return damaged(c, "chunks out of order");
    bool more = memcmp(name, "IDAT", 4) == 0;
    over |= pixels && !more;
    if (over && more) return damaged(c, "chunks out of order");
    pixels = more;
    if (at == 8) {
      if (length != 13 || data[9] > 6 || !is_depth(data[9], data[8]) || big32(data) > INT32_MAX ||
          big32(data + 4) > INT32_MAX)
        return damaged(c, "a bad header");
      x->w = (int)big32(data);
      x->h = (int)big32(data + 4);
      x->bits = data[8] == 16 ? 16 : 8;
      x->channels = channels[data[9]];
    } else if (more || memcmp(name, "PLTE", 4) == 0) {
      if (late && !more) return damaged(c, "chunks out of order");
      late = true;
    } else if (memcmp(name, "tRNS", 4) == 0) {
      if (x->channels % 2) x->channels++; /* one colour is transparent: with alpha */
    } else if (memcmp(name, "tEXt", 4) == 0 && length == sizeof FLOATS - 1) {
      x->floats |= memcmp(data, FLOATS, sizeof FLOATS - 1) == 0;
    } else if (memcmp(name, "IEND", 4) == 0) return true;
  }
}

/* The data of all IDAT chunks are one zlib stream, which ends as it should, sum and all, or gives more
** than the pixels could take. */
static bool check_pixels(ctx *c, const uint8_t *p, const picture *x) {
  const zip *lib = zip_open(c);
  uint8_t out[1 << 14];
  z_stream z = {.zalloc = zip_alloc, .zfree = zip_free};
  if (!lib) return false;
  if (lib->inflate_init(&z, 15, ZLIB_VERSION, sizeof z) != Z_OK) return fail_memory(c, 1 << 16);
  uint64_t most = 2 * ((uint64_t)x->w * 8 + 8) * x->h,
           given = 0; /* rows of 16 bits and interlaced */
  int err = Z_OK;
  for (int64_t at = 8; err == Z_OK && memcmp(p + at + 4, "IEND", 4) != 0;) {
    int64_t length = big32(p + at);
    z.next_in = (Bytef *)(p + at + 8);
    z.avail_in = memcmp(p + at + 4, "IDAT", 4) == 0 ? (uInt)length : 0;
    while (err == Z_OK && z.avail_in > 0 && given <= most) {
      z.next_out = out;
      z.avail_out = sizeof out;
      err = lib->inflate(&z, Z_NO_FLUSH);
      given += sizeof out - z.avail_out;
    }
    at += 12 + length;
  }
  lib->inflate_end(&z);
  if (err == Z_MEM_ERROR) return fail_memory(c, 1 << 16);
  return err == Z_STREAM_END || given > most ? true : damaged(c, "its pixels do not unpack");
}

/* Tables of codes: a kind, how many there are of each length, that many bytes. stb_image 2.27 does not
** count them. */
static bool code_tables(const uint8_t *p, int64_t n) {
  for (int64_t k; n > 0; n -= 17 + k, p += 17 + k) {
    k = 0;
    for (int i = 1; i <= 16 && n >= 17; i++) k += p[i];
    if (n < 17 + k || k > 256) return false;
  }
  return true;
}

/* Segments: 0xff, a marker, mostly a length and data; behind a start of scan, codes in which 0xff is
** followed by 0 or a restart. */
static bool walk_jpeg(ctx *c, const uint8_t *p, int64_t n, picture *x) {
  for (int64_t at = 2;;) {
    while (at < n && p[at] != 0xff) at++; /* what codes are left */
    while (at < n && p[at] == 0xff) at++;
    if (at == n) return early(c);
    int marker = p[at++];
    if (marker == 0xd9) break;
    if (marker == 0 || marker == 1 || (marker >= 0xd0 && marker <= 0xd7)) continue;
    if (n - at < 2) return early(c);
    int64_t length = p[at] << 8 | p[at + 1];
    if (length < 2 || length > n - at) return early(c);
    if (marker == 0xc4 && !code_tables(p + at + 2, length - 2))
      return damaged(c, "a bad table of codes");
    bool frame =
        marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame && length >= 8) {
      x->h = p[at + 3] << 8 | p[at + 4];
      x->w = p[at + 5] << 8 | p[at + 6];
      x->channels = p[at + 7] == 1 ? 1 : 3;
    }
    at += length;
  }
  x->bits = 8;
  return x->channels ? true : damaged(c, "there is no frame in it");
}

bool picture_about(ctx *c, const uint8_t *bytes, int64_t n, picture *x) {
  enum { RATIO = 1032 }; /* deflate cannot do more; nor JPEG, where a block takes a bit at least */
  *x = (picture){0};
  bool png = n >= 8 && memcmp(bytes, SIGNATURE, 8) == 0;
  if (!png && !(n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0))
    return fail(c, "it is neither a PNG nor a JPEG");
  if (!(png ? walk_png : walk_jpeg)(c, bytes, n, x)) return false;
  int64_t pixels = (int64_t)x->w * x->h;
  if (pixels <= 0) return damaged(c, "it has no pixels");
  if (pixels / 8 / RATIO > n) return damaged(c, "it is too short for its size");
  return true;
}

/* Decoding takes about three times what comes out. */
static bool has_room(ctx *c, const picture *x) {
  memstat m;
  mem_stat(&m);
  int64_t size = (int64_t)x->w * x->h * x->channels * (x->bits / 8);
  return m.limit && m.live + 3 * (size_t)size > m.limit ? fail_memory(c, 3 * size) : true;
}

/* For colours beyond the end of a palette stb_image takes what stood in memory; here they are black. The
** file with a palette of 256 colours, or itself; NULL: no memory. */
static const uint8_t *with_palette(ctx *c, const uint8_t *p, int64_t *n) {
  enum { COLOURS = 3 * 256 };
  int64_t at = 8, length = big32(p + at);
  if (p[8 + 8 + 9] != 3) return p; /* the kind of colours */
  while (memcmp(p + at + 4, "PLTE", 4) != 0 && memcmp(p + at + 4, "IEND", 4) != 0)
    at += 12 + length, length = big32(p + at);
  if (length >= COLOURS || length % 3 || memcmp(p + at + 4, "PLTE", 4) != 0) return p;
  uint8_t *q = mg_alloc(c, *n + COLOURS - length);
  if (!q) return NULL;
  memcpy(q, p, at + 8 + length);
  store32(q + at, COLOURS);
  memset(q + at + 8 + length, 0, COLOURS - length);
  memcpy(q + at + 8 + COLOURS, p + at + 8 + length, *n - at - 8 - length);
  *n += COLOURS - length;
  return q;
}

static bool decode(ctx *c, const uint8_t *bytes, int64_t n, picture *x) {
  int w, h, channels;
  wanted = 0;
  x->p = x->bits == 16
             ? (void *)stbi_load_16_from_memory(bytes, (int)n, &w, &h, &channels, x->channels)
             : (void *)stbi_load_from_memory(bytes, (int)n, &w, &h, &channels, x->channels);
  if (!x->p) {
    const char *why = stbi_failure_reason();
    return wanted ? fail_memory(c, wanted) : damaged(c, why ? why : "nobody knows why");
  }
  if (w == x->w && h == x->h) return true;
  picture_free(x);
  return damaged(c, "it has two sizes");
}

bool picture_read(ctx *c, const uint8_t *bytes, int64_t n, picture *x) {
  if (!picture_about(c, bytes, n, x) || !has_room(c, x)) return false;
  if (bytes[0] != SIGNATURE[0]) return decode(c, bytes, n, x);
  const uint8_t *whole = check_pixels(c, bytes, x) ? with_palette(c, bytes, &n) : NULL;
  bool ok = whole && decode(c, whole, n, x);
  if (whole != bytes) mg_free((void *)whole);
  return ok;
}

void picture_free(picture *x) {
  if (x->p) stbi_image_free(x->p);
  x->p = NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct {
  ctx *c;
  bool (*put)(void *arg, const void *p, int64_t n);
  void *arg;
} sink;

static bool chunk(sink *s, const char *name, const void *data, int64_t n) {
  uint8_t head[8], tail[4];
  uint32_t crc = 0;
  store32(head, (uint32_t)n);
  memcpy(head + 4, name, 4);
  if (!file_sum(s->c, &crc, head + 4, 4) || !file_sum(s->c, &crc, data, n)) return false;
  store32(tail, crc);
  return s->put(s->arg, head, 8) && s->put(s->arg, data, n) && s->put(s->arg, tail, 4);
}

static int paeth(int a, int b, int c) {
  int p = a + b - c, pa = p < a ? a - p : p - a, pb = p < b ? b - p : p - b;
  int pc = p < c ? c - p : p - c;
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* Filter `kind` of a row whose left neighbour is `step` bytes away: the sum of what is left of it. */
static int64_t filter(int kind, const uint8_t *row, const uint8_t *above, int64_t n, int step,
                      uint8_t *out) {
  int64_t sum = 0;
  *out++ = (uint8_t)kind;
  for (int64_t i = 0; i < n; i++) {
    int a = i < step ? 0 : row[i - step], b = above ? above[i] : 0;
    int c = above && i >= step ? above[i - step] : 0;
    int guess = kind == 0 ? 0 : kind == 1 ? a : kind == 2 ? b : paeth(a, b, c);
    uint8_t v = (uint8_t)(row[i] - guess);
    out[i] = v;
    sum += v < 128 ? v : 256 - v;
  }
  return sum;
}

/* All that zlib has to give of what it was given, in chunks */
static bool drain(sink *s, const zip *lib, z_stream *z, uint8_t *out, uInt room, int flush) {
  for (;;) {
    int err = lib->deflate(z, flush);
    if (err == Z_STREAM_ERROR) return fail(s->c, "zlib fails");
    if (z->avail_out > 0 && err != Z_STREAM_END) return true;
    if (room > z->avail_out && !chunk(s, "IDAT", out, room - z->avail_out)) return false;
    z->next_out = out;
    z->avail_out = room;
    if (err == Z_STREAM_END) return true;
  }
}

static bool write_rows(sink *s, const zip *lib, z_stream *z, const picture *x, uint8_t *lines) {
  enum { KINDS = 4, ROOM = 1 << 16 };
  static const int kinds[KINDS] = {0, 1, 2, 4};
  int64_t n = (int64_t)x->w * x->channels;
  uint8_t *best = lines, *other = lines + n + 1, *out = lines + 2 * (n + 1);
  z->next_out = out;
  z->avail_out = ROOM;
  for (int y = 0; y < x->h; y++) {
    const uint8_t *row = (const uint8_t *)x->p + y * n;
    int64_t least_sum = INT64_MAX;
    for (int k = 0; k < KINDS; k++) {
      int64_t sum = filter(kinds[k], row, y ? row - n : NULL, n, x->channels, other);
      if (sum >= least_sum) continue;
      least_sum = sum;
      uint8_t *was = best;
      best = other;
      other = was;
    }
    z->next_in = best;
    z->avail_in = (uInt)(n + 1);
    if (!drain(s, lib, z, out, ROOM, Z_NO_FLUSH)) return false;
  }
  return drain(s, lib, z, out, ROOM, Z_FINISH);
}

bool picture_write(ctx *c, const picture *x, bool (*put)(void *arg, const void *p, int64_t n),
                   void *arg) {
  static const uint8_t colour[] = {0, 0, 4, 2, 6};
  sink s = {c, put, arg};
  const zip *lib = zip_open(c);
  uint8_t header[13] = {0};
  store32(header, (uint32_t)x->w);
  store32(header + 4, (uint32_t)x->h);
  header[8] = 8;
  header[9] = colour[x->channels];
  if (!lib || !put(arg, SIGNATURE, 8) || !chunk(&s, "IHDR", header, 13)) return false;
  if (x->floats && !chunk(&s, "tEXt", FLOATS, sizeof FLOATS - 1)) return false;
  uint8_t *lines = mg_alloc(c, 2 * ((size_t)x->w * x->channels + 1) + (1 << 16));
  if (!lines) return false;
  z_stream z = {.zalloc = zip_alloc, .zfree = zip_free};
  bool ok = lib->deflate_init(&z, Z_DEFAULT_COMPRESSION, ZLIB_VERSION, sizeof z) == Z_OK;
  if (!ok) fail_memory(c, 1 << 18);
  else {
    ok = write_rows(&s, lib, &z, x, lines);
    lib->deflate_end(&z);
  }
  mg_free(lines);
  return ok && chunk(&s, "IEND", "", 0);
}
