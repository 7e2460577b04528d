/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What the notifier_hold module and user space tell each other.
 *
 * /dev/notifier_hold      each open file is one subscriber, which ends with the file.
 * /dev/notifier_hold_log  read: struct nh_log_header, then its count of struct nh_event.
 *
 * The log outlives the module: a change of the records' layout or meaning raises
 * NH_LOG_FORMAT, and harness/model/event.py reads the formats that it knows.  The
 * requests have no version: the module and its users are built from one tree, and
 * the size of a request is part of its number.  All integers are in the byte order
 * of the machine, which is always little endian here.
 */
#ifndef _NOTIFIER_HOLD_UAPI_H
#define _NOTIFIER_HOLD_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define NH_LOG_MAGIC		0x474c484e	/* "NHLG" */
#define NH_LOG_FORMAT		3
#define NH_BUFFER_MAX		0x40000000ULL	/* bytes a subscriber may cover: 1 GiB */
#define NH_WAIT_MS_MAX		10000		/* longest wait in a callback */
#define NH_TIMEOUTS_MAX		3		/* timeouts after which a callback waits no more */

/* What a record is about; 0 is reserved to catch a record that was never written. */
enum nh_kind {
	NH_START = 1,		/* invalidate_range_start, from entry to return */
	NH_END,			/* invalidate_range_end; result 1: it waited for a mirror */
	NH_RELEASE,		/* the mm goes away */
	NH_REGISTER,		/* result is the return value; flags are NH_SUB_* */
	NH_UNREGISTER,		/* mmu_notifier_unregister, or from _put to free_notifier */
	NH_WAIT,		/* inside a START: the callback waited; result 0 or -ETIMEDOUT */
	NH_MARK,		/* a mark of user space; start is its number */
	NH_HOLD,		/* references taken; result is pages, or -errno if none */
	NH_PUT,			/* references dropped; result is pages */
	NH_VIOLATION,		/* the module's own pairing broke: result is enum nh_broken */
	NH_INVALIDATE,		/* an interval's invalidate(): result 0 is true, any other false */
	NH_MIRROR,		/* a mirror took over result pages; flags are the step */
	NH_COMPARE,		/* a mirror of result pages was compared; flags are the step */
	NH_YOUNG,		/* was a page accessed? event is enum nh_young */
	NH_FLUSH,		/* arch_invalidate_secondary_tlbs of a mirror */
};

/* Which of the three callbacks asks a device whether it accessed its pages. */
enum nh_young {
	NH_YOUNG_CLEAR_FLUSH = 1,	/* clear_flush_young: reclaim */
	NH_YOUNG_CLEAR,			/* clear_young: idle page tracking, MGLRU */
	NH_YOUNG_TEST,			/* test_young: khugepaged */
};

/* Flags of a YOUNG. */
#define NH_YOUNG_ATOMIC		0x1	/* the task holds a spinlock */
#define NH_YOUNG_COUNTED	0x2	/* the kernel counts that; else ATOMIC is never set */

/*
 * How the pairing of starts and ends broke, as the module sees it at run time.  The
 * record describes the callback that showed it, except for NH_BROKEN_LOST_END,
 * _NESTING and _MISSING_START: those describe the start.
 */
enum nh_broken {
	NH_BROKEN_LOST_END = 1,	/* the task went on after a start without its end */
	NH_BROKEN_ORPHAN_END,	/* an end without a start */
	NH_BROKEN_EXTRA_END,	/* one end too many */
	NH_BROKEN_RANGE,	/* the fields of an end are not those of the start */
	NH_BROKEN_NESTING,	/* an outer range ended before this inner range */
	NH_BROKEN_ORDER,	/* the ends came in another order than the starts */
	NH_BROKEN_MISSING_START, /* others had their start, this subscriber did not */
	NH_BROKEN_REENTERED,	/* a start within the callback of another */
	/* From the probes: what try_to_unmap_one() did to the page table, and when. */
	NH_BROKEN_EARLY,	/* a page was unmapped before the start */
	NH_BROKEN_LATE,		/* a page was unmapped after the end */
	NH_BROKEN_UNTOLD,	/* a page was unmapped, and there was no start for it */
	NH_BROKEN_WIDE,		/* the range is larger than what is unmapped */
	/* From mirrors: what no range told them; the record's range is that of the pages. */
	NH_BROKEN_GONE,		/* nothing is mapped any more */
	NH_BROKEN_MOVED,	/* another page is mapped */
	NH_BROKEN_READ_ONLY,	/* the page may not be written any more */
	NH_BROKEN_BEGUN,	/* one of these, when the first range that tells of it begins */
	NH_BROKEN_SHARED,	/* the page was the device's alone, and is mapped again */
	NH_BROKENS,
};

/* What invalidate_range_start does when the range meets the subscriber's buffer. */
enum nh_policy {
	NH_ACCEPT = 1,		/* return 0 */
	NH_EAGAIN_MAYFAIL,	/* -EAGAIN if the range may fail */
	NH_EAGAIN_RECLAIM,	/* -EAGAIN if the task is in reclaim, whatever the flags */
	NH_EAGAIN_ALWAYS,	/* -EAGAIN */
	NH_ERRNO,		/* another errno, see enum nh_when */
	NH_WAIT_FENCE,		/* wait, bounded, for the object's fence */
	NH_WAIT_MUTEX,		/* wait, bounded, for the object's mutex */
	NH_MAYFAIL_TRYLOCK,	/* may fail: trylock or -EAGAIN; else as NH_WAIT_MUTEX */
	NH_MAYFAIL_FENCE,	/* may fail: fence done or -EAGAIN; else as NH_WAIT_FENCE */
	NH_BLOCK_MUTEX,		/* lock the object's mutex, however long it takes */
	NH_POLICIES,
};

/* When NH_ERRNO fails. */
enum nh_when {
	NH_WHEN_MAYFAIL,	/* if the range may fail */
	NH_WHEN_RECLAIM,	/* if the task is in reclaim */
	NH_WHEN_ALWAYS,
	NH_WHENS,
};

/* Bits of nh_event.context. */
#define NH_CTX_RECLAIM_STATE	0x01	/* current->reclaim_state was set */
#define NH_CTX_OWN_BUFFER	0x02	/* the range meets the subscriber's buffer */
#define NH_CTX_OWNER_IS_CURRENT	0x04	/* it would wait for what this task itself holds */
#define NH_CTX_HAS_END		0x08	/* registered with invalidate_range_end */
#define NH_CTX_QUENCHED		0x10	/* the quench flag was set: accepted at once */
/* From the probes in the kernel, not the subscriber; without OBSERVED they say nothing. */
#define NH_CTX_OBSERVED		0x20	/* the probes are there and missed nothing so far */
#define NH_CTX_UNMAP_ONE	0x40	/* below try_to_unmap_one() */
#define NH_CTX_DIRECT		0x80	/* below try_to_free_pages() or _mem_cgroup_pages() */

/* MAYFAIL in nh_event.flags, whatever bit the patch uses; never set without the patch. */
#define NH_RANGE_MAYFAIL	0x02

/*
 * One record.  It is reserved on entry and finished on return: seq_exit == 0
 * means that the call has not returned, seq == 0 that the record is being written.
 */
struct nh_event {
	__u64 seq;		/* global order, stamped first on entry; from 1 */
	__u64 seq_exit;		/* the same order, stamped on return */
	__u64 time_ns;		/* CLOCK_MONOTONIC on entry */
	__u64 duration_ns;
	__u64 task;		/* address of the task_struct */
	__u64 mm;		/* range->mm, or the subscriber's */
	__u64 current_mm;
	__u64 range;		/* address of the caller's mmu_notifier_range; 0 if there is none */
	__u64 start;
	__u64 end;
	__u32 flags;		/* range->flags, with NH_RANGE_MAYFAIL */
	__u32 pf_flags;		/* current->flags */
	__s32 result;
	__u32 pid;
	__u32 tgid;
	__u32 subscriber;	/* from 1 */
	__u8 kind;		/* enum nh_kind */
	__u8 event;		/* range->event */
	__u8 context;		/* NH_CTX_* */
	__u8 policy;		/* enum nh_policy */
	__u32 cpu;
};

struct nh_log_header {
	__u32 magic;		/* NH_LOG_MAGIC */
	__u32 format;		/* NH_LOG_FORMAT */
	__u32 record_size;
	__u32 subscribers;	/* numbers given out so far */
	__u64 count;		/* records that follow */
	__u64 lost;		/* records that are missing: no room, or record=0 */
	__u64 capacity;
};

#define NH_SUB_END		0x01	/* with invalidate_range_end */
#define NH_SUB_GET		0x02	/* mmu_notifier_get/put, by two users */
#define NH_SUB_INTERVAL		0x04	/* an interval: has no end, NH_SUB_END is ignored */
#define NH_SUB_MIRROR		0x08	/* a mirror of the page table, on an interval: both bits */
#define NH_SUB_YOUNG		0x10	/* with the young callbacks; not for an interval */
#define NH_SUB_ACCESSED		0x20	/* and their answer is that it accessed its pages */
#define NH_SUB_TLB		0x40	/* a mirror that is told what TLBs flush */

/* Become a subscriber to the mm of the caller.  Once per open file. */
struct nh_subscribe {
	__u64 addr;		/* (in) first byte of the buffer, page aligned */
	__u64 len;		/* (in) bytes, whole pages */
	__u32 policy;		/* (in) enum nh_policy */
	__s32 error;		/* (in) for NH_ERRNO; a positive value is passed on as it is */
	__u32 when;		/* (in) for NH_ERRNO: enum nh_when */
	__u32 wait_ms;		/* (in) bound of each wait */
	__u32 flags;		/* (in) NH_SUB_* */
	__u32 subscriber;	/* (out) its number */
	__u32 end_ms;		/* (in) bound of a wait in an end for a mirror; with NH_SUB_END */
	__u32 reserved;		/* (in) 0 */
};

/*
 * Become a subscriber to the whole address space of another process, as an observer
 * that cannot hold pages.  Once per open file, like NH_SUBSCRIBE.
 */
struct nh_watch {
	__u32 pid;		/* (in) of the main thread; -ESRCH when it has no mm any more */
	__u32 flags;		/* (in) NH_SUB_* */
	__u32 policy;		/* (in) the same as in struct nh_subscribe, up to wait_ms */
	__s32 error;		/* (in) */
	__u32 when;		/* (in) */
	__u32 wait_ms;		/* (in) */
	__u32 subscriber;	/* (out) its number */
	__u32 reserved;		/* (in) 0 */
};

/* Change the policy of a subscriber; callbacks that run now keep the old one. */
struct nh_set_policy {
	__u32 policy;		/* (in) the same as in struct nh_subscribe */
	__s32 error;		/* (in) */
	__u32 when;		/* (in) */
	__u32 wait_ms;		/* (in) */
};

enum nh_how {
	NH_HOW_GET,		/* get_user_pages: FOLL_GET */
	NH_HOW_PIN,		/* pin_user_pages: FOLL_PIN */
	NH_HOWS,
};

/* Take (NH_HOLD_PAGES) or drop (NH_PUT_PAGES) a reference on each page of the buffer. */
struct nh_hold {
	__u32 how;		/* (in) enum nh_how */
	__u32 reserved;		/* (in) 0 */
	__u64 pages;		/* (out) pages taken or dropped */
};

/* The device writes its held pages, or compares them with what it would write. */
struct nh_device {
	__u64 seed;		/* (in) see nh_pattern() */
	__u64 pages;		/* (out) pages seen */
	__u64 bad;		/* (out) pages that differ in at least one word */
};

/* The state of the held pages in struct page; all but the refs are numbers of pages. */
struct nh_pages {
	__u64 held;		/* (out) */
	__u64 mapped;		/* (out) in at least one page table */
	__u64 swapcache;	/* (out) */
	__u64 dirty;		/* (out) */
	__u64 writeback;	/* (out) */
	__u64 pinned;		/* (out) maybe pinned for DMA, in the kernel's view */
	__u64 lru;		/* (out) */
	__u64 active;		/* (out) */
	__u64 buddy;		/* (out) free, which a held page never is */
	__u32 refs_min;		/* (out) references to one page */
	__u32 refs_max;		/* (out) */
};

/* Does the buffer still map the held pages? */
struct nh_same {
	__u64 same;		/* (out) */
	__u64 differ;		/* (out) another page is mapped */
	__u64 absent;		/* (out) nothing is mapped */
};

enum nh_gfp {
	NH_GFP_ACCOUNT,		/* charged to the caller's memcg: GFP_KERNEL_ACCOUNT */
	NH_GFP_MOVABLE,		/* from anywhere, without waking kswapd: global direct reclaim */
	NH_GFPS,
};

/* Allocate until `pages`, the time or both stops are reached, or nothing is left; then free it. */
struct nh_kalloc {
	__u32 gfp;		/* (in) enum nh_gfp; always __GFP_NORETRY: no OOM kill */
	__u32 limit_ms;		/* (in) */
	__u64 pages;		/* (in) stop after this many */
	__u64 stop_allocstall;	/* (in) until allocstall has grown by this; 0: any */
	__u64 stop_callbacks;	/* (in) until this many callbacks in direct reclaim; 0: any */
	__u64 allocated;	/* (out) pages */
	__u64 failed;		/* (out) allocations that failed */
	__u64 allocstall;	/* (out) its growth */
	__u64 callbacks;	/* (out) of this subscriber in direct reclaim, by any task */
};

/*
 * Build the object page by page under its own mutex and before its fence is
 * signalled: take a reference on a page of the buffer, allocate charged kernel
 * pages.  When the memcg is full, reclaim runs in this very task and picks the
 * pages that the object already holds.
 */
struct nh_build {
	__u32 how;		/* (in) enum nh_how */
	__u32 alloc;		/* (in) kernel pages to allocate for each page */
	__u32 together;		/* (in) begin when this many builders hold their mutexes */
	__u32 timeouts;		/* (out) waits that timed out; at NH_TIMEOUTS_MAX the build stops */
	__u64 pages;		/* (out) pages taken; they stay held */
	__u64 allocated;	/* (out) kernel pages, freed again */
	__u64 failed;		/* (out) kernel allocations that failed */
	__u64 callbacks;	/* (out) callbacks in direct reclaim meanwhile */
	__s32 result;		/* (out) 0, -EDEADLK, -EINTR or get_user_pages' errno */
	__u32 pad;
};

/* Counters of one subscriber. */
struct nh_stats {
	__u64 starts;		/* (out) */
	__u64 ends;		/* (out) */
	__u64 own;		/* (out) starts that meet the buffer; the rest counts only those */
	__u64 mayfail;		/* (out) */
	__u64 direct;		/* (out) in direct reclaim */
	__u64 refused;		/* (out) a value other than 0 was returned */
	__u64 waits;		/* (out) */
	__u64 timeouts;		/* (out) */
	__u64 mm_refs;		/* (out) references to the mm_struct: mm_count */
};

/*
 * mmu_interval_read_begin() of an interval subscriber, in a kernel thread: after a
 * lost end it never returns.  -EBUSY while an earlier call has not returned; its
 * thread keeps the subscriber for good, so that closing the file does not hang, too.
 */
struct nh_read_begin {
	__u32 limit_ms;		/* (in) at most NH_WAIT_MS_MAX */
	__s32 result;		/* (out) 0 or -ETIMEDOUT */
	__u64 sequence;		/* (out) what it returned */
	__u64 retry;		/* (out) 1: a range met the interval since the last call returned */
};

/* The device moves the pages of the buffer to others. */
struct nh_move {
	__u64 pages;		/* (out) those that moved, or are there now */
};

/* What a mirror makes the kernel do before it takes over an entry of the page table. */
enum nh_mirror_access {
	NH_MIRROR_PRESENT,	/* nothing: what is not mapped is not mirrored */
	NH_MIRROR_READ,		/* fault for reading */
	NH_MIRROR_WRITE,	/* fault for writing */
	NH_MIRROR_EXCLUSIVE,	/* let the device have the page alone, until the CPU wants it */
	NH_MIRROR_ACCESSES,
};

/* Take over the page table of the buffer. */
struct nh_mirror_fill {
	__u32 access;		/* (in) enum nh_mirror_access */
	__u32 step;		/* (in) what the record is to say of the moment */
	__u64 pages;		/* (out) entries taken over */
	__u64 writable;		/* (out) those with permission to write */
	__u64 stale;		/* (out) as in struct nh_mirror_compare, but 0 for EXCLUSIVE */
	__u64 busy;		/* (out) pages that ranges met all the time: not taken over */
};

/* Compare what the mirror holds with the page table; what is stale is told once, and given up. */
struct nh_mirror_compare {
	__u32 step;		/* (in) what the record is to say of the moment */
	__u32 reserved;		/* (in) 0 */
	__u64 held;		/* (out) entries compared */
	__u64 stale;		/* (out) those that the page table lost without a range */
	__u64 busy;		/* (out) pages that ranges met all the time: not compared */
};

/* Counters of the module since it was loaded. */
struct nh_counters {
	__u64 violations;	/* (out) NH_VIOLATION, recorded or not */
	__u64 saturated;	/* (out) callbacks that the pairing had no room to follow */
	__u64 aborted;		/* (out) ends that a leaving subscriber lost, legally */
	__u64 missed;		/* (out) calls that the probes missed; after one, no OBSERVED */
	__u32 observing;	/* (out) 1: the probes are registered */
	__u32 leaving;		/* (out) put, but not freed after many grace periods */
	__u64 broken[NH_BROKENS];	/* (out) the violations by enum nh_broken */
};

#define NH_SUBSCRIBE		_IOWR('N', 0x40, struct nh_subscribe)
#define NH_SET_POLICY		_IOW('N', 0x41, struct nh_set_policy)
#define NH_HOLD_PAGES		_IOWR('N', 0x42, struct nh_hold)
#define NH_PUT_PAGES		_IOR('N', 0x43, struct nh_hold)
#define NH_DEVICE_WRITE		_IOWR('N', 0x44, struct nh_device)
#define NH_DEVICE_CHECK		_IOWR('N', 0x45, struct nh_device)
#define NH_GET_PAGES		_IOR('N', 0x46, struct nh_pages)
#define NH_GET_SAME		_IOR('N', 0x47, struct nh_same)
#define NH_KALLOC		_IOWR('N', 0x48, struct nh_kalloc)
#define NH_BUILD		_IOWR('N', 0x49, struct nh_build)
#define NH_GET_STATS		_IOR('N', 0x4a, struct nh_stats)
#define NH_READ_BEGIN		_IOWR('N', 0x4b, struct nh_read_begin)
/*
 * 0: from now on NH_WAIT_FENCE and NH_MAYFAIL_FENCE find the fence not done; 1: done,
 * as at the beginning.  While a start waits (nh_stats.waits has grown), others can
 * register, leave or be put.
 */
#define NH_SET_FENCE		_IOW('N', 0x4c, __u32)
/*
 * The same with the object's mutex held, which the driver's invalidate() waits
 * for: a mistake that lockdep reports (mm/mmu_notifier.c has a lockdep map for it).
 */
#define NH_READ_BEGIN_LOCKED	_IOWR('N', 0x4d, struct nh_read_begin)
#define NH_WATCH		_IOWR('N', 0x4e, struct nh_watch)
#define NH_MIRROR_FILL		_IOWR('N', 0x4f, struct nh_mirror_fill)
#define NH_MIRROR_COMPARE	_IOWR('N', 0x50, struct nh_mirror_compare)
#define NH_DEVICE_MOVE		_IOR('N', 0x51, struct nh_move)

/* On /dev/notifier_hold_log. */
#define NH_LOG_MARK		_IOW('N', 0x62, __u64)
#define NH_LOG_COUNTERS		_IOR('N', 0x63, struct nh_counters)

/* What user space or the device writes with `seed` to word `word` of page `page`. */
static inline __u64 nh_pattern(__u64 seed, __u64 page, __u64 word)
{
	return (seed + 1) * 0x9e3779b97f4a7c15ULL + (page << 9 | word);
}

#endif /* _NOTIFIER_HOLD_UAPI_H */
