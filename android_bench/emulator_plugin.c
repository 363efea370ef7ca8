/* Counts the instructions that an emulated aarch64 program executes. The program reads the counts as clocks.
 *
 *     LD_PRELOAD=counts.so qemu-aarch64 -plugin counts.so,l1=32768:4:64,l2=524288:16:64 ...
 *
 * The library is a qemu plugin and also preloaded into qemu, so that its clock_gettime() replaces the system's for the
 * program. Reading clock START starts counting; until then the program runs faster. Clock READ + n is counter n.
 * Reading clock SELECT + n makes all other clocks show counter n, one microsecond per count, so that a profiler in the
 * program reports counts instead of microseconds. The program never sees the real time, so runs are reproducible. Only
 * the first thread is counted. */
#include <qemu-plugin.h>
#include <time.h>

#include "emulator_cache.h"

#define START 0x46430000
#define READ 0x46440000
#define SELECT 0x46450000
#define COUNT_NS 1000 /* of the selected clock */

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* In the order of COUNTERS in schema.py. */
enum { INSTRUCTIONS, SIMD, DOT, MATMUL, LOADS, STORES, L1_MISSES, L2_MISSES, COUNTERS };

static struct qemu_plugin_scoreboard *scores; /* counters that qemu updates, one uint64_t[COUNTERS] per thread */
static qemu_plugin_id_t self;
static bool started;
static uint64_t accesses[COUNTERS];           /* counters that `access` updates */
static struct cache l1, l2;
static int selected;

static qemu_plugin_u64 score(int counter)
{
    return (qemu_plugin_u64){scores, counter * sizeof(uint64_t)};
}

static uint64_t count(int counter)
{
    return started ? qemu_plugin_u64_get(score(counter), 0) + accesses[counter] : 0;
}

/* Arm ARM (DDI 0487), C4.1: bits 28 to 25 of Advanced SIMD and floating-point instructions are x111. */
static bool is_simd(uint32_t word)
{
    return (word >> 25 & 7) == 7;
}

/* SDOT, UDOT, USDOT and SUDOT, by vector and by element. */
static bool is_dot(uint32_t word)
{
    return (word & 0x9fe0fc00) == 0x0e809400 || (word & 0x9fc0f400) == 0x0f80e000 ||
           (word & 0xbfe0fc00) == 0x0e809c00 || (word & 0xbf40f400) == 0x0f00f000;
}

/* SMMLA, UMMLA and USMMLA. */
static bool is_matmul(uint32_t word)
{
    return (word & 0xdfe0fc00) == 0x4e80a400 || (word & 0xffe0fc00) == 0x4e80ac00;
}

static void access(unsigned int thread, qemu_plugin_meminfo_t info, uint64_t address, void *unused)
{
    if (thread)
        return;
    accesses[qemu_plugin_mem_is_store(info) ? STORES : LOADS]++;
    cache_access(&l1, &l2, address, 1ull << qemu_plugin_mem_size_shift(info), &accesses[L1_MISSES],
                 &accesses[L2_MISSES]);
}

/* Called for each block of instructions that qemu translates; makes qemu count the block whenever it runs. */
static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    uint64_t found[COUNTERS] = {[INSTRUCTIONS] = qemu_plugin_tb_n_insns(block)};
    for (size_t i = 0; i < found[INSTRUCTIONS]; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word = 0;
        qemu_plugin_insn_data(instruction, &word, sizeof word);
        found[SIMD] += is_simd(word);
        found[DOT] += is_dot(word);
        found[MATMUL] += is_matmul(word);
        qemu_plugin_register_vcpu_mem_cb(instruction, access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
    for (int i = 0; i < COUNTERS; i++)
        if (found[i])
            qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, QEMU_PLUGIN_INLINE_ADD_U64, score(i), found[i]);
}

/* Called when qemu has discarded its translated blocks. */
static void start(qemu_plugin_id_t id)
{
    started = true;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
}

QEMU_PLUGIN_EXPORT int clock_gettime(clockid_t clock, struct timespec *now)
{
    uint64_t ns = 0;
    if (clock == START)
        qemu_plugin_reset(self, start);
    else if (clock >= READ && clock < READ + COUNTERS)
        ns = count(clock - READ);
    else if (clock >= SELECT && clock < SELECT + COUNTERS)
        selected = clock - SELECT;
    else
        ns = count(selected) * COUNT_NS;
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    bool made = argc == 2 && !strncmp(argv[0], "l1=", 3) && !strncmp(argv[1], "l2=", 3) &&
                cache_make(&l1, argv[0] + 3) && cache_make(&l2, argv[1] + 3);
    if (!made) {
        fprintf(stderr, "counts: expected l1=BYTES:WAYS:LINE,l2=BYTES:WAYS:LINE\n");
        return 1;
    }
    scores = qemu_plugin_scoreboard_new(sizeof(uint64_t[COUNTERS]));
    self = id;
    return 0;
}
