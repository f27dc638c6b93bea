/** Lanes that are used from the start, where there are as many. */
const LANES_AT_FIRST = 8;

/**
 * Prepared statements that a busy tenant is reckoned with. A tenant that uses more costs others theirs
 * (docs/benchmarks/tenant-query.md), one that uses fewer leaves a lane some room.
 */
const STATEMENTS_OF_A_TENANT = 16;

/**
 * Which lane a tenant comes to: always the same one, so that one backend alone has to know its tables. Few lanes
 * are used while few tenants are busy: what is asked of a lane in one turn of the event loop is one write to its
 * socket and one wake-up of its backend, and with 100 tenants on 32 lanes instead of 8 a read took a fifth
 * more CPU (docs/PERFORMANCE.md). More are used as soon as those in use could not keep every tenant's statements.
 */
export class LaneAffinity {
  readonly #laneOf = new Map<number, number>();
  /** How many tenants each lane in use has. */
  readonly #tenantsOf: number[];
  readonly #lanes: number;
  readonly #tenantsPerLane: number;

  /** @throws RangeError without a lane */
  constructor(lanes: number, preparedPerLaneMax: number) {
    if (lanes < 1) throw new RangeError("A tenant database needs at least one lane");
    this.#lanes = lanes;
    this.#tenantsPerLane = Math.max(1, Math.ceil(preparedPerLaneMax / STATEMENTS_OF_A_TENANT));
    this.#tenantsOf = Array.from({ length: Math.min(lanes, LANES_AT_FIRST) }, () => 0);
  }

  /** Lanes that are in use: the first so many. */
  get used(): number {
    return this.#tenantsOf.length;
  }

  /** A tenant's lane, counted from 0. */
  laneOf(tenantId: number): number {
    const known = this.#laneOf.get(tenantId);
    if (known !== undefined) return known;
    const isFull = this.#laneOf.size >= this.used * this.#tenantsPerLane;
    if (isFull && this.used < this.#lanes) this.#tenantsOf.push(0);
    const least = this.#tenantsOf.indexOf(Math.min(...this.#tenantsOf));
    this.#tenantsOf[least] = (this.#tenantsOf[least] ?? 0) + 1;
    this.#laneOf.set(tenantId, least);
    return least;
  }
}
