/** Jobs at a time, up to a limit. The first failure is kept and thrown at whoever asks next. */
export class BoundedWork {
  readonly #limit: number;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Starts a job once there is room for it. Rejects with the failure of an earlier one. */
  async start(job: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.#limit) await Promise.race(this.#running);
    this.#check();
    const running: Promise<void> = job()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => void this.#running.delete(running));
    this.#running.add(running);
  }

  /** Waits for all jobs. Rejects with the failure of one. */
  async idle(): Promise<void> {
    await this.ended();
    this.#check();
  }

  /** Waits for all jobs, however they end. */
  async ended(): Promise<void> {
    await Promise.all(this.#running);
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
