/** Wakes one loop: any number of rings while it is busy make it run once more. */
export class Doorbell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Whether it was rung since the last time that somebody came. */
  get isRung(): boolean {
    return this.#rung;
  }

  /** Whatever rang is seen to from now on. */
  answer(): void {
    this.#rung = false;
  }

  /** Resolves at the next ring, at once when there was one since the last time. */
  async wait(): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = undefined;
    this.answer();
  }
}
