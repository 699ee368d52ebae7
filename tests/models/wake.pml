/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an interrupt finds a vcpu that runs, sleeps, or is just about to, on one host CPU or another: halt, request, kick, wake, move.
 *
 * The steps bear names that stand in the code as well:
 *   IRR, REQUEST, LOOK, KICK, WAKE    dev/apic/lapic.c, vcpu_request() in vm/vcpu/run.c, queues_wake() in vm/machine/queues.c
 *   TAKE, DELIVER, INSIDE, CHECK      vm/vcpu/run.c, vm/vcpu/enter.h
 *   HALT, SLEEP, RECHECK              vm/vcpu/run.c, queues_put()
 *   PICK, STEAL, REST, WAIT           queues_pick(), schedule_loop()
 * A step is one access to what is shared; the locks are the queues'. Not modelled: other vcpus, whose only part is to take time, which
 * every step may take anyway, and timers, which would hide what is lost.
 *
 * When nobody can go on, no interrupt may be left. `broken` names a rule that is not kept; each must be found out.
 */
#define CPUS 2
#define EXITS 1 /* that the guest makes by itself: then it runs for ever */
#define RULES 8

#define LOOKS_FIRST 1      /* a sender looks where the vcpu is before it sets the request */
#define NO_RECHECK 2       /* who puts it to sleep doesn't look at the requests any more */
#define RECHECK_EARLY 3    /* or does so before it sleeps */
#define INSIDE_LATE 4      /* requests are looked at before in_guest is set */
#define CPU_FIRST 5        /* the CPU to kick is read before the request is set */
#define NO_KICK 6          /* one in its guest isn't kicked */
#define LOOK_BEFORE_TAKE 7 /* interrupts are looked at before the requests are taken */
#define REQUEST_FIRST 8    /* the request comes before the interrupt */

mtype = { ASLEEP, READY, RUNNING };

byte broken;
bit irr, request, in_guest;
byte cpu;            /* vcpu->cpu: changes only under the lock of the queue that it names */
mtype place = READY; /* vcpu->place, the same */
bit halted;          /* vcpu->activity: his who runs it */
bit locked[CPUS];    /* queues */
bit ipi[CPUS], idle[CPUS];
byte exits;

inline lock(c) { atomic { !locked[c] -> locked[c] = 1 } }

/* The CPU `self`, or another than all these (CPUS), raises an interrupt. at: the CPU that it read. */
inline send(self)
{
	if
	:: broken == LOOKS_FIRST || broken == CPU_FIRST -> d_step { at = cpu; inside = in_guest; was = place }
	:: broken == REQUEST_FIRST -> request = 1
	:: else
	fi;
IRR:	atomic {
		if
		:: irr -> goto sent /* it is one with an earlier one, of which the vcpu was told */
		:: else -> irr = 1
		fi
	};
REQUEST: atomic {
		if
		:: broken == REQUEST_FIRST
		:: broken != REQUEST_FIRST && request -> goto sent /* who set it first kicks */
		:: broken != REQUEST_FIRST && !request -> request = 1
		fi
	};
LOOK:	atomic {
		if
		:: broken != LOOKS_FIRST -> inside = in_guest
		:: else
		fi;
		if
		:: inside -> inside = 0
		:: else -> goto WAKE
		fi
	};
	if
	:: broken != CPU_FIRST -> at = cpu
	:: else
	fi;
KICK:	atomic {
		if
		:: at != self && broken != NO_KICK -> ipi[at] = 1
		:: else
		fi;
		goto sent
	};
WAKE:	atomic {
		if
		:: broken != LOOKS_FIRST -> was = place
		:: else
		fi;
		if
		:: was != ASLEEP -> goto sent
		:: else
		fi
	};
	wake(self);
sent:	atomic { at = 0; was = READY }
}

/* In the queue that it is on by then, or in that of an idle CPU, it becomes ready. */
inline wake(self)
{
	do
	:: at = cpu;
		lock(at);
		atomic {
			if
			:: cpu == at -> break
			:: else -> locked[at] = 0
			fi
		}
	od;
	if
	:: place == ASLEEP ->
		atomic {
			if
			:: idle[at] -> idle[at] = 0
			:: !idle[at] && idle[1 - at] -> idle[1 - at] = 0; cpu = 1 - at; locked[at] = 0; at = 1 - at;
				goto moving
			:: else
			fi;
			goto moved
		};
moving:		lock(at);
moved:		place = READY;
		if
		:: at != self -> ipi[at] = 1
		:: else
		fi
	:: else
	fi;
	locked[at] = 0
}

/* vcpu_run(): until it sleeps. */
inline work(me)
{
	skip;
again:	if
	:: broken == LOOK_BEFORE_TAKE -> looked = irr
	:: else
	fi;
TAKE:	request = 0;
DELIVER: atomic {
		if
		:: broken != LOOK_BEFORE_TAKE -> looked = irr
		:: else
		fi;
		if
		:: looked -> irr = 0; halted = 0; looked = 0
		:: !looked && halted -> goto SLEEP
		:: else
		fi
	};
	if
	:: broken == INSIDE_LATE -> looked = request
	:: else
	fi;
INSIDE:	in_guest = 1;
CHECK:	atomic {
		if
		:: broken != INSIDE_LATE -> looked = request
		:: else
		fi;
		if
		:: looked -> looked = 0; in_guest = 0; goto again
		:: else
		fi
	};
	atomic {
		if
		:: ipi[me] -> ipi[me] = 0; in_guest = 0; goto again
		:: exits < EXITS -> exits++
		fi
	};
	in_guest = 0;
HALT:	atomic {
		if
		:: irr -> goto again
		:: else -> halted = 1
		fi
	};
SLEEP:	lock(me);
	atomic {
		if
		:: broken == RECHECK_EARLY -> looked = request
		:: else
		fi
	};
	place = ASLEEP;
RECHECK: atomic {
		if
		:: broken != RECHECK_EARLY && broken != NO_RECHECK -> looked = request
		:: else
		fi;
		if
		:: looked -> looked = 0; place = READY
		:: else
		fi;
		locked[me] = 0
	}
}

proctype host(byte me; byte sends)
{
	byte at;
	bit inside, looked;
	mtype was = READY;

	do
	:: sends -> sends--; send(me)
	:: true ->
PICK:		lock(me);
		atomic {
			if
			:: place == READY && cpu == me -> place = RUNNING; idle[me] = 0; locked[me] = 0; goto working
			:: else -> locked[me] = 0
			fi
		};
STEAL:		lock(1 - me);
		atomic {
			if
			:: place == READY && cpu == 1 - me -> cpu = me; locked[1 - me] = 0; goto picked
			:: else -> locked[1 - me] = 0
			fi
		};
REST:		atomic {
			if
			:: idle[me]
			:: else -> idle[me] = 1; goto picked
			fi
		};
		lock(me);
		atomic {
			locked[me] = 0;
			if
			:: place == READY && cpu == me -> goto picked
			:: else
			fi
		};
WAIT:		atomic { ipi[me] -> ipi[me] = 0; goto picked };
working:	work(me);
picked:		skip
	od
}

proctype elsewhere()
{
	byte at;
	bit inside;
	mtype was = READY;

	send(CPUS)
}

init
{
	atomic {
		select(broken : 0 .. RULES);
		run host(0, 0);
		run host(1, 1);
		run elsewhere()
	};
	atomic {
		timeout;
		assert(broken != 0 || !irr);
		assert(broken != LOOKS_FIRST || !irr);
		assert(broken != NO_RECHECK || !irr);
		assert(broken != RECHECK_EARLY || !irr);
		assert(broken != INSIDE_LATE || !irr);
		assert(broken != CPU_FIRST || !irr);
		assert(broken != NO_KICK || !irr);
		assert(broken != LOOK_BEFORE_TAKE || !irr);
		assert(broken != REQUEST_FIRST || !irr)
	}
}
