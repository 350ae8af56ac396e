/** One request of the API. What is undefined in the query is left out; a list stands there once for each of its texts. */
export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
  readonly body?: object;
  readonly signal?: AbortSignal;
}
