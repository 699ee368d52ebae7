/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a flush reaches vcpus that run, and may be anywhere else: vm/machine/flush.c against vm/vcpu/enter.h and run.c, under the machine's
 * lock, which a vcpu takes on its way, too. Two vcpus, each of which flushes once; they move between CPUs whenever they are in no guest.
 *
 * The steps: CHANGE (the tables), GENERATION, REQUEST, LOOK, KICK, AWAIT; TAKE, SEEN, DELIVER (with the lock), INSIDE, CHECK, ENTER.
 * A step is one access to what is shared.
 *
 * When a flush is over, no vcpu is in its guest with translations from before it; and nobody waits for ever. `broken` names a rule that
 * is not kept; each must be found out.
 */
#define VCPUS 2
#define CPUS 3
#define RULES 7

#define LOOKS_FIRST 1    /* a flush looks for vcpus inside before it sets the request */
#define INSIDE_LATE 2    /* requests are looked at before in_guest is set */
#define LOCK_INSIDE 3    /* the lock is taken with in_guest set */
#define NO_KICK 4        /* one in its guest isn't kicked */
#define LATE 5           /* the generation moves on after the request */
#define CPU_FIRST 6      /* the CPU to kick is read before the request is set */
#define SEEN_FIRST 7     /* the generation is looked at before the request is taken */

byte broken;
byte tables, generation; /* changes so far */
bit locked;              /* the machine's */
bit request[VCPUS], in_guest[VCPUS], inside[VCPUS];
byte cpu[VCPUS], seen[VCPUS], cached[VCPUS]; /* as of which change the processor's translations are */
bit ipi[CPUS];
byte busy;      /* flushes that have begun */
byte completed; /* as of which change all translations have to be */
bit stale;

inline lock() { atomic { !locked -> locked = 1 } }

/* By vcpu `me`, of the other one. */
inline flush(me, other)
{
	busy++;
	lock();
	atomic {
		if
		:: broken == CPU_FIRST -> at = cpu[other]
		:: broken == LOOKS_FIRST -> was = in_guest[other]
		:: else
		fi
	};
CHANGE:	atomic { tables++; target = tables; request[me] = 1 };
GENERATION: atomic {
		if
		:: broken != LATE -> generation = target
		:: else
		fi
	};
REQUEST: request[other] = 1;
	atomic {
		if
		:: broken == LATE -> generation = target
		:: else
		fi
	};
LOOK:	atomic {
		if
		:: broken != LOOKS_FIRST -> was = in_guest[other]
		:: else
		fi;
		if
		:: !was -> goto over
		:: else -> was = 0
		fi
	};
	atomic {
		if
		:: seen[other] >= target || !request[other] -> goto over
		:: else
		fi
	};
	atomic {
		if
		:: broken != CPU_FIRST -> at = cpu[other]
		:: else
		fi
	};
KICK:	atomic {
		if
		:: broken != NO_KICK -> ipi[at] = 1
		:: else
		fi
	};
AWAIT:	(!in_guest[other] || seen[other] >= target || !request[other]);
over:	atomic {
		stale = stale || (inside[other] && cached[other] < target);
		completed = (completed > target -> completed : target);
		busy--;
		at = 0;
		target = 0;
		locked = 0
	}
}

proctype vcpu(byte me, other)
{
	byte at, target, exits;
	bit was, flushes = 1, pending;

again:	do
	:: flushes -> flushes = 0; flush(me, other)
	:: cpu[me] == 0 -> cpu[me] = CPUS - 1 /* it moves, once */
	:: break
	od;
	if
	:: broken == SEEN_FIRST -> at = generation
	:: else
	fi;
TAKE:	atomic { was = request[me]; request[me] = 0 };
SEEN:	atomic {
		if
		:: was && broken != SEEN_FIRST -> at = generation
		:: else
		fi;
		if
		:: was && at != seen[me] -> pending = 1; seen[me] = at
		:: else
		fi;
		at = 0;
		was = 0
	};
DELIVER: if
	:: broken != LOCK_INSIDE -> lock(); locked = 0
	:: true /* nothing is to be delivered */
	fi;
	if
	:: broken == INSIDE_LATE -> was = request[me]
	:: else
	fi;
INSIDE:	in_guest[me] = 1;
	if
	:: broken == LOCK_INSIDE -> lock(); locked = 0
	:: else
	fi;
CHECK:	atomic {
		if
		:: broken != INSIDE_LATE -> was = request[me]
		:: else
		fi;
		if
		:: was -> was = 0; in_guest[me] = 0; goto again
		:: else
		fi
	};
ENTER:	atomic {
		if
		:: pending -> pending = 0; cached[me] = tables
		:: else
		fi;
		stale = stale || cached[me] < completed;
		inside[me] = 1
	};
	atomic { /* it runs for ever if it isn't kicked, but for one exit by itself */
		if
		:: ipi[cpu[me]] -> ipi[cpu[me]] = 0
		:: !exits -> exits = 1
		fi;
		inside[me] = 0
	};
	in_guest[me] = 0;
	goto again
}

#define GOOD (!busy && !stale)

init
{
	atomic {
		select(broken : 0 .. RULES);
		cpu[1] = 1;
		run vcpu(0, 1);
		run vcpu(1, 0)
	};
	atomic {
		timeout;
		assert(broken != 0 || GOOD);
		assert(broken != LOOKS_FIRST || GOOD);
		assert(broken != INSIDE_LATE || GOOD);
		assert(broken != LOCK_INSIDE || GOOD);
		assert(broken != NO_KICK || GOOD);
		assert(broken != LATE || GOOD);
		assert(broken != CPU_FIRST || GOOD);
		assert(broken != SEEN_FIRST || GOOD)
	}
}
