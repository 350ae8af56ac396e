/** What the promise brings, or a rejection with the signal's reason as soon as that is aborted. */
export function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const give = (): void => reject(signal.reason);
    if (signal.aborted) give();
    signal.addEventListener('abort', give, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', give));
  });
}
