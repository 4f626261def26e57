/** Thrown when the bytes of a server are no HTTP/1.1 answer, or end before it does. */
export class MalformedAnswerError extends Error {
  constructor(what: string) {
    super(`its answer is malformed: ${what}`);
    this.name = "MalformedAnswerError";
  }
}
