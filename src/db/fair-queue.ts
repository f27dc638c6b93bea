/**
 * Jobs waiting, by whom they are for: taken in turn, one of each, so that whoever has many waits for
 * their own. Within one key first in, first out.
 */
export class FairQueue<Job> {
  /** Whose turn is next stands first: a Map keeps its entries in the order they were set. */
  readonly #byKey = new Map<string, Job[]>();
  #length = 0;

  get length(): number {
    return this.#length;
  }

  lengthOf(key: string): number {
    return this.#byKey.get(key)?.length ?? 0;
  }

  push(key: string, job: Job): void {
    this.#length += 1;
    const jobs = this.#byKey.get(key);
    if (jobs) jobs.push(job);
    else this.#byKey.set(key, [job]);
  }

  /** Puts a job before the others of its key. */
  unshift(key: string, job: Job): void {
    this.#length += 1;
    const jobs = this.#byKey.get(key);
    if (jobs) jobs.unshift(job);
    else this.#byKey.set(key, [job]);
  }

  /** The next job of the first key that may go now; undefined when none may. */
  take(mayGo: (key: string) => boolean): Job | undefined {
    for (const [key, jobs] of this.#byKey) {
      if (!mayGo(key)) continue;
      const job = jobs.shift();
      this.#byKey.delete(key);
      if (jobs.length > 0) this.#byKey.set(key, jobs);
      this.#length -= 1;
      return job;
    }
    return undefined;
  }

  /** The newest job of the key that has the most; undefined when none has more than `least`. */
  takeLastOfLongest(least: number): Job | undefined {
    let longest: string | undefined;
    let most = least;
    for (const [key, jobs] of this.#byKey) {
      if (jobs.length > most) [longest, most] = [key, jobs.length];
    }
    const jobs = longest === undefined ? undefined : this.#byKey.get(longest);
    const job = jobs?.pop();
    if (job === undefined || longest === undefined) return undefined;
    if (jobs?.length === 0) this.#byKey.delete(longest);
    this.#length -= 1;
    return job;
  }

  /** Takes one out, wherever it stands. @returns whether it was there */
  remove(key: string, job: Job): boolean {
    const jobs = this.#byKey.get(key) ?? [];
    const index = jobs.indexOf(job);
    if (index === -1) return false;
    jobs.splice(index, 1);
    if (jobs.length === 0) this.#byKey.delete(key);
    this.#length -= 1;
    return true;
  }

  /** Everything, the queue left empty. */
  takeAll(): Job[] {
    const jobs = [...this.#byKey.values()].flat();
    this.#byKey.clear();
    this.#length = 0;
    return jobs;
  }
}
