/*
 * The core of agreement (docs/spec/consensus.md, round_change.md): four miners, of which one is Byzantine, every order of events.
 * docs/spec/model/README.md says what is left out, and why nothing is lost by it. Run by `make model`.
 *
 * HEIGHTS, ROUNDS   how many of each
 * OFFSET            proposer(h, r) = (h + r + OFFSET) mod 4; miner 3 is the Byzantine one
 * QUORUM            3
 *
 * Flaws, which have to be found: QUORUM=2, NO_CARRY, UNJUSTIFIED, LOWEST, FORGET, LATE_COMMIT, VETO.
 */

#ifndef HEIGHTS
#define HEIGHTS 1
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#ifndef OFFSET
#define OFFSET 3
#endif
#ifndef QUORUM
#define QUORUM 3
#endif

#define HONEST 3
#define BYZANTINE 3
#define PROPOSER(h, r) (((h) + (r) + OFFSET) % 4)

/* A block is named by the round of its first proposal and which of two it is: 1, 2 | 3, 4 | 5, 6. */
#define BLOCK(r, which) (1 + 2 * (r) + (which))
#define FRESH(h, r) (PROPOSER(h, r) == BYZANTINE -> 1 << BLOCK(r, 0) | 1 << BLOCK(r, 1) : 1 << BLOCK(r, 0))

/* Being prepared: 0 not at all, else round and block. */
#define LOCK(r, v) (8 * (r) + (v))
#define LOCK_ROUND(lock) ((lock) / 8)
#define LOCK_BLOCK(lock) ((lock) % 8)

/* All that honest miners have said; nothing said is ever taken back, and anybody may hear it, or not. */
typedef Instance {
  byte round[HONEST];
  byte lock[HONEST];
  byte proposal[ROUNDS];              /* by an honest proposer */
  byte prepare[HONEST * ROUNDS];
  byte commit[HONEST * ROUNDS];
  byte change[HONEST * ROUNDS];       /* 0: no ROUND-CHANGE, else 1 + what it reports as prepared */
  byte justified[ROUNDS];             /* follows from the above */
  byte decided
};
Instance at[HEIGHTS];
byte height[HONEST];
bool calm;

#define PREPARE_OF(h, i, r) at[h].prepare[(i) * ROUNDS + (r)]
#define COMMIT_OF(h, i, r) at[h].commit[(i) * ROUNDS + (r)]
#define CHANGE_OF(h, i, r) at[h].change[(i) * ROUNDS + (r)]

/* The Byzantine miner has always said whatever helps. */
#define PREPARES(h, r, v) ((PREPARE_OF(h, 0, r) == (v)) + (PREPARE_OF(h, 1, r) == (v)) + (PREPARE_OF(h, 2, r) == (v)))
#define COMMITS(h, r, v) ((COMMIT_OF(h, 0, r) == (v)) + (COMMIT_OF(h, 1, r) == (v)) + (COMMIT_OF(h, 2, r) == (v)))
#define PREPARED(h, r, v) (PREPARES(h, r, v) + 1 >= QUORUM)
#define COMMITTED(h, r, v) (COMMITS(h, r, v) + 1 >= QUORUM)

/*
 * May block v be proposed in round r? For r > 0 a quorum of ROUND-CHANGEs has to say so: two honest ones and that of the Byzantine
 * miner, which reports nothing, or a certificate there is. Three honest ones allow nothing that two of them do not. Both
 * ROUND-CHANGEs and certificates only become more, so what is justified stays so, and is noted as bits of the block.
 */
#define JUSTIFIED(h, r, v) (at[h].justified[r] >> (v) & 1)

#ifdef LOWEST
#define BETTER(a, b) ((a) < (b))
#else
#define BETTER(a, b) ((a) > (b))
#endif

hidden byte h_, r_, k_, v_, i_, j_, best_, first_, who_;

inline justify(h, r, i, j) {
  /* the ROUND-CHANGEs of i and j, which may be one miner where two are a quorum */
  if
  :: CHANGE_OF(h, i, r) && CHANGE_OF(h, j, r) ->
       best_ = (BETTER(CHANGE_OF(h, i, r), CHANGE_OF(h, j, r)) -> CHANGE_OF(h, i, r) : CHANGE_OF(h, j, r)) - 1;
       if
       :: best_ == 0 -> at[h].justified[r] = at[h].justified[r] | FRESH(h, r)
       :: else -> at[h].justified[r] = at[h].justified[r] | (1 << LOCK_BLOCK(best_))
       fi;
       /* the Byzantine miner reports to be prepared in a round k above theirs */
       for (k_ : 0 .. r - 1) {
         if
         :: best_ == 0 || LOCK_ROUND(best_) < k_ ->
              for (v_ : 1 .. 2 * ROUNDS) {
                if
                :: PREPARED(h, k_, v_) -> at[h].justified[r] = at[h].justified[r] | (1 << v_)
                :: else
                fi
              }
         :: else
         fi
       }
  :: else
  fi
}

inline justify_all(h) {
  at[h].justified[0] = FRESH(h, 0);
  r_ = 1;
  do
  :: r_ < ROUNDS ->
#if QUORUM == 2
       justify(h, r_, 0, 0); justify(h, r_, 1, 1); justify(h, r_, 2, 2);
#endif
       justify(h, r_, 0, 1); justify(h, r_, 0, 2); justify(h, r_, 1, 2);
       r_++
  :: else -> break
  od
}

#ifdef UNJUSTIFIED
#define LIE true
#else
#define LIE false
#endif
#define PROPOSED(h, r, v) (PROPOSER(h, r) != BYZANTINE && at[h].proposal[r] == (v) \
  || PROPOSER(h, r) == BYZANTINE && (LIE || JUSTIFIED(h, r, v)))

#ifdef VETO
#define REFUSED(h, i, v) (at[h].lock[i] && LOCK_BLOCK(at[h].lock[i]) != (v))
#else
#define REFUSED(h, i, v) false
#endif

/* What has to hold at any moment of height h. */
inline check(h) {
  first_ = 0;
  for (r_ : 0 .. ROUNDS - 1) {
    /* the block committed in the lowest round so far, then that of this one */
    who_ = 0;
    for (v_ : 1 .. 2 * ROUNDS) {
      if
      :: COMMITTED(h, r_, v_) -> assert(first_ == 0 || first_ == v_);   /* no two blocks are committed */
           first_ = v_
      :: else
      fi;
      if
      :: PREPARED(h, r_, v_) -> assert(who_ == 0);                      /* no two are prepared in one round */
           who_ = v_
      :: else
      fi
    }
    assert(first_ == 0 || who_ == 0 || who_ == first_)                  /* none but the committed is prepared from then on */
  }
}

/* --- what miner i, honest, may do at any moment --- */

#define ACTIVE(i) (height[i] < HEIGHTS && !calm)
#define H(i) height[i]

#ifdef NO_CARRY
#define REPORTED(i) 0
#else
#define REPORTED(i) at[H(i)].lock[i]
#endif
#define ENTER(i, r) \
  :: ACTIVE(i) && at[H(i)].round[i] < (r) -> \
       at[H(i)].round[i] = r; CHANGE_OF(H(i), i, r) = 1 + REPORTED(i); h_ = H(i)

#define PROPOSE(i, r, v) \
  :: ACTIVE(i) && PROPOSER(H(i), r) == (i) && at[H(i)].round[i] == (r) && at[H(i)].proposal[r] == 0 \
       && JUSTIFIED(H(i), r, v) -> at[H(i)].proposal[r] = v; h_ = H(i)

#define VOTE_PREPARE(i, r, v) \
  :: ACTIVE(i) && at[H(i)].round[i] <= (r) && PREPARE_OF(H(i), i, r) == 0 \
       && PROPOSED(H(i), r, v) && !REFUSED(H(i), i, v) -> \
       at[H(i)].round[i] = r; PREPARE_OF(H(i), i, r) = v; h_ = H(i)

#ifdef LATE_COMMIT
#define COMMIT_ROUND(i, r) (at[H(i)].round[i] >= (r))
#else
#define COMMIT_ROUND(i, r) (at[H(i)].round[i] == (r))
#endif
#define VOTE_COMMIT(i, r) \
  :: ACTIVE(i) && COMMIT_ROUND(i, r) && PREPARE_OF(H(i), i, r) && COMMIT_OF(H(i), i, r) == 0 \
       && PREPARED(H(i), r, PREPARE_OF(H(i), i, r)) -> \
       COMMIT_OF(H(i), i, r) = PREPARE_OF(H(i), i, r); h_ = H(i); \
       at[H(i)].lock[i] = (LOCK(r, PREPARE_OF(H(i), i, r)) > at[H(i)].lock[i] -> \
         LOCK(r, PREPARE_OF(H(i), i, r)) : at[H(i)].lock[i])

#define NEXT_HEIGHT(i) \
  :: ACTIVE(i) && H(i) + 1 < HEIGHTS && at[H(i)].decided -> h_ = H(i); height[i]++

#ifdef FORGET
#define CRASH(i) :: ACTIVE(i) && at[H(i)].lock[i] -> at[H(i)].lock[i] = 0; h_ = H(i)
#else
#define CRASH(i)
#endif

#if ROUNDS == 1
#define EACH_ROUND(A, i) A(i, 0)
#define EACH_BLOCK(A, i, r) A(i, r, 1) A(i, r, 2)
#define EACH_ROUND_AND_BLOCK(A, i) EACH_BLOCK(A, i, 0)
#elif ROUNDS == 2
#define EACH_ROUND(A, i) A(i, 0) A(i, 1)
#define EACH_BLOCK(A, i, r) A(i, r, 1) A(i, r, 2) A(i, r, 3) A(i, r, 4)
#define EACH_ROUND_AND_BLOCK(A, i) EACH_BLOCK(A, i, 0) EACH_BLOCK(A, i, 1)
#else
#define EACH_ROUND(A, i) A(i, 0) A(i, 1) A(i, 2)
#define EACH_BLOCK(A, i, r) A(i, r, 1) A(i, r, 2) A(i, r, 3) A(i, r, 4) A(i, r, 5) A(i, r, 6)
#define EACH_ROUND_AND_BLOCK(A, i) EACH_BLOCK(A, i, 0) EACH_BLOCK(A, i, 1) EACH_BLOCK(A, i, 2)
#endif

#define EVERYTHING(i) \
  EACH_ROUND(ENTER, i) EACH_ROUND_AND_BLOCK(PROPOSE, i) EACH_ROUND_AND_BLOCK(VOTE_PREPARE, i) \
  EACH_ROUND(VOTE_COMMIT, i) NEXT_HEIGHT(i) CRASH(i)

/* --- after the storm: the Byzantine miner is mute, what was said is heard, the last round has not begun --- */

#define LAST (ROUNDS - 1)
#define LAST_PROPOSER PROPOSER(HEIGHTS - 1, LAST)
#define BEFORE_LAST(i) (height[i] == HEIGHTS - 1 && at[HEIGHTS - 1].round[i] < LAST)

inline last_round(h) {
  calm = true;
  best_ = 0;
  for (i_ : 0 .. HONEST - 1) {
    at[h].round[i_] = LAST;
    CHANGE_OF(h, i_, LAST) = 1 + at[h].lock[i_];
    best_ = (at[h].lock[i_] > best_ -> at[h].lock[i_] : best_)
  }
  at[h].proposal[LAST] = (best_ -> LOCK_BLOCK(best_) : BLOCK(LAST, 0));
  for (i_ : 0 .. HONEST - 1) {
    if
    :: !REFUSED(h, i_, at[h].proposal[LAST]) -> PREPARE_OF(h, i_, LAST) = at[h].proposal[LAST]
    :: else
    fi
  }
  assert(PREPARES(h, LAST, at[h].proposal[LAST]) >= QUORUM);           /* a round in which all is heard commits */
  h_ = h
}

init {
  d_step { for (j_ : 0 .. HEIGHTS - 1) { justify_all(j_) }; skip };
  do
  :: atomic {
       if
       EVERYTHING(0)
       EVERYTHING(1)
       EVERYTHING(2)
       fi;
       d_step { justify_all(h_); check(h_); at[h_].decided = first_ }
     }
#if ROUNDS > 1
  :: d_step {
       !calm && LAST_PROPOSER != BYZANTINE && BEFORE_LAST(0) && BEFORE_LAST(1) && BEFORE_LAST(2) ->
       last_round(HEIGHTS - 1); check(HEIGHTS - 1); skip
     }
#endif
  od
}
