/** Those who wait until a connection has sent most of what it holds. */
export class DrainWaiters {
  #waiting: { readonly bytes: number; readonly resolve: () => void }[] = [];

  /** Resolves at the first {@link settle} with at most `bytes`. */
  wait(bytes: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ bytes, resolve });
    });
  }

  /** Tells that `bufferedBytes` are left to send; a closed connection has none. */
  settle(bufferedBytes: number): void {
    if (this.#waiting.length === 0) return;
    const ready = this.#waiting.filter(({ bytes }) => bufferedBytes <= bytes);
    this.#waiting = this.#waiting.filter(({ bytes }) => bufferedBytes > bytes);
    for (const { resolve } of ready) resolve();
  }
}
