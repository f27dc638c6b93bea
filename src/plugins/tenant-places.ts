import { AsyncResource } from "node:async_hooks";

/** How long a request waits for a place, and how long a refusal is held back, in milliseconds. */
const PATIENCE_MS = 1_000;

/**
 * Refusals held back at once, over all tenants: of about 10 KB each, the socket included. More are told at once.
 */
const HELD_MAX = 1_000;

/** Told what became of a visit that was pending: whether it was let in. */
type OnTurn = (isAdmitted: boolean) => void;

/** A request's stay at its tenant's places. */
export interface Visit {
  /** `pending`: it is told later, unless it leaves before. */
  readonly answer: "admitted" | "refused" | "pending";
  /** Gives the place back, or gives up waiting for one. To be called once. */
  leave(): void;
}

interface Waiting {
  admit(): void;
  timer: NodeJS.Timeout | undefined;
}

interface Room {
  inside: number;
  /** In the order in which they came. */
  readonly waiting: Set<Waiting>;
}

const TURNED_AWAY: Visit = { answer: "refused", leave: () => undefined };

/**
 * So many places for each tenant, and as many that wait for one. Whoever comes to a full house is refused, and not at
 * once: clients that try again without a pause would keep the process busy with refusals, at everybody's expense. Held
 * back, each of their connections gets one a second.
 */
export class TenantPlaces {
  readonly #placesMax: number;
  /** Only of those that have somebody inside. */
  readonly #rooms = new Map<number, Room>();
  #held = 0;

  constructor(placesMax: number) {
    this.#placesMax = placesMax;
  }

  /** @param key whose places: a tenant may have places of several kinds */
  enter(key: number, onTurn: OnTurn): Visit {
    let room = this.#rooms.get(key);
    if (!room) this.#rooms.set(key, (room = { inside: 0, waiting: new Set() }));
    if (room.inside < this.#placesMax) {
      room.inside += 1;
      return { answer: "admitted", leave: () => this.#leave(key, room) };
    }
    return room.waiting.size < this.#placesMax ? this.#wait(key, room, onTurn) : this.#hold(onTurn);
  }

  #leave(key: number, room: Room): void {
    const [next] = room.waiting;
    if (next) {
      // The place is handed on, so the count stays.
      room.waiting.delete(next);
      clearTimeout(next.timer);
      next.admit();
      return;
    }
    room.inside -= 1;
    if (room.inside === 0) this.#rooms.delete(key);
  }

  #wait(key: number, room: Room, onTurn: OnTurn): Visit {
    let isInside = false;
    const waiting: Waiting = {
      // Else what follows would be taken for a part of the request that has left (AsyncLocalStorage).
      admit: AsyncResource.bind(() => {
        isInside = true;
        onTurn(true);
      }),
      timer: undefined,
    };
    waiting.timer = setTimeout(() => {
      room.waiting.delete(waiting);
      onTurn(false);
    }, PATIENCE_MS);
    room.waiting.add(waiting);
    return {
      answer: "pending",
      leave: () => {
        clearTimeout(waiting.timer);
        if (isInside) this.#leave(key, room);
        else room.waiting.delete(waiting);
      },
    };
  }

  #hold(onTurn: OnTurn): Visit {
    if (this.#held >= HELD_MAX) return TURNED_AWAY;
    this.#held += 1;
    let isHeld = true;
    const release = () => {
      if (isHeld) this.#held -= 1;
      isHeld = false;
    };
    const timer = setTimeout(() => {
      release();
      onTurn(false);
    }, PATIENCE_MS);
    return {
      answer: "pending",
      leave: () => {
        clearTimeout(timer);
        release();
      },
    };
  }
}
