// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two measurements, each printed as one number.
 *
 * "calibrate", in a guest: nanoseconds that the guest takes for the work of the
 * scenarios: page faults, system calls and a little arithmetic. The host divides by
 * the time that an ordinary machine takes for the same work. Behind it, nanoseconds
 * for arithmetic alone: whatever the kernel under test does, that takes as long as the
 * host is slow.
 *
 * "tsc", on the host: kHz of its time stamp counter. TCG gives that counter
 * to the guest, whose kernel fails to measure it against an emulated PIT
 * and falls back to a clock of 4 ms.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define ROUNDS 8
#define PAGES 512
#define LOOP 4000000

#define TSC_NS 20000000ULL
#define LOOKS 16

struct moment {
	uint64_t ticks, ns;
};

/* Reads both clocks at the same time: of several readings the one that was not interrupted. */
static struct moment look(void)
{
	struct moment best = { 0 };
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < LOOKS; i++) {
		uint64_t before = __builtin_ia32_rdtsc(), ns = clock_ns(CLOCK_MONOTONIC_RAW);
		uint64_t took = __builtin_ia32_rdtsc() - before;

		if (took < least) {
			least = took;
			best = (struct moment){ .ticks = before + took / 2, .ns = ns };
		}
	}
	return best;
}

int measure_tsc(void)
{
	struct moment first = look(), last;

	do {
		last = look();
	} while (last.ns - first.ns < TSC_NS);
	printf("%llu\n", (last.ticks - first.ticks) * 1000000ULL / (last.ns - first.ns));
	return 0;
}

int calibrate(void)
{
	uint64_t began = clock_ns(CLOCK_MONOTONIC), worked, sum = 0;
	const long page = sysconf(_SC_PAGESIZE);

	for (int round = 0; round < ROUNDS; round++) {
		volatile unsigned char *area = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE,
						    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (area == MAP_FAILED)
			return 1;
		madvise((void *)area, PAGES * page, MADV_NOHUGEPAGE);
		for (long i = 0; i < PAGES; i++) {
			area[i * page] = (unsigned char)i;
			for (int spin = 0; spin < 200; spin++)
				sum = sum * 6364136223846793005ULL + area[i * page];
		}
		munmap((void *)area, PAGES * page);
		for (int i = 0; i < PAGES; i++)
			sum += (uint64_t)getppid();
	}
	worked = clock_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < LOOP; i++) {
		sum = sum * 6364136223846793005ULL + i;
		/* The loop stays between the two looks at the clock. */
		asm volatile("" : "+r"(sum));
	}
	printf("%llu %llu\n", (unsigned long long)(worked - began),
	       (unsigned long long)(clock_ns(CLOCK_MONOTONIC) - worked));
	return sum == 1;	/* never true: keeps the arithmetic */
}
