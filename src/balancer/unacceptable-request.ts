/** Thrown when a client's request can't be taken, for a reason that its head tells. */
export class UnacceptableRequestError extends Error {
  /** Of the answer that says so. */
  readonly status: number;

  constructor(status: number, why: string) {
    super(why);
    this.name = "UnacceptableRequestError";
    this.status = status;
  }
}
