/** Thrown when the bytes of a peer are no message of HTTP/1.1, or end before it does. The text names what is wrong. */
export class MalformedMessageError extends Error {
  constructor(what: string) {
    super(what);
    this.name = "MalformedMessageError";
  }
}
