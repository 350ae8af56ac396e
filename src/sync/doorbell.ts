/** Wakes one loop: any number of rings while it is busy make it run once more. */
export class Doorbell {
  #rung = false;
  #answer: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#answer?.();
  }

  /** Resolves at the next ring, at once when there was one since the last time. */
  async wait(): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        this.#answer = resolve;
      });
    }
    this.#answer = undefined;
    this.#rung = false;
  }
}
