import type { Accounts } from "./accounts.ts";
import type { Journals } from "./journals.ts";
import type { AnswerKeeping } from "./request.ts";
import type { Tally } from "./tally.ts";

/** Pages of the balancer's own. */
export type Page = "health" | "status" | "metrics";

export type Target =
  | {
      readonly kind: "forward";
      /** Path and query for the server. */
      readonly path: string;
      readonly tally: Tally;
      readonly journal: AnswerKeeping | undefined;
      /** `Authorization` holds our token, which is no server's business. */
      readonly dropsAuthorization: boolean;
    }
  | { readonly kind: "page"; readonly page: Page }
  | { readonly kind: "forbidden" };

const pages: Readonly<Record<string, Page>> = {
  "/lb/health": "health",
  "/lb/status": "status",
  "/metrics": "metrics",
};

const forbidden: Target = { kind: "forbidden" };

/**
 * Where requests go. With a token it must be part of the path, `/eh/{token}/{account}/{part}/…`, which also says where the
 * request is counted, or of the fields: `Authorization: Bearer {token}`. Without a token every path is a server's, except the
 * balancer's own pages.
 */
export class Routes {
  readonly #token: string | undefined;
  readonly #accounts: Accounts;
  readonly #journals: Journals;

  constructor(token: string | undefined, accounts: Accounts, journals: Journals) {
    this.#token = token;
    this.#accounts = accounts;
    this.#journals = journals;
  }

  find(url: string, authorization: string | undefined): Target {
    // It tells nobody anything, so that whoever starts us can look without a token.
    if (url === "/lb/health") return { kind: "page", page: "health" };
    if (url.startsWith("/eh/")) return this.#findPrefixed(url);
    if (this.#token === undefined) return this.#findPlain(url, false);
    if (authorization === undefined || !isEqual(authorization, `Bearer ${this.#token}`)) {
      return forbidden;
    }
    return this.#findPlain(url, true);
  }

  #findPlain(url: string, dropsAuthorization: boolean): Target {
    const page = pages[url];
    if (page !== undefined) return { kind: "page", page };
    if (!url.startsWith("/")) return forbidden;
    const [tally, journal] = [this.#accounts.tally("", ""), this.#journals.find("", "")];
    return { kind: "forward", path: url, tally, journal, dropsAuthorization };
  }

  #findPrefixed(url: string): Target {
    const tokenEnd = url.indexOf("/", 4);
    if (tokenEnd < 0 || this.#token === undefined) return forbidden;
    if (!isEqual(url.slice(4, tokenEnd), this.#token)) return forbidden;
    const page = pages[url.slice(tokenEnd)];
    if (page !== undefined) return { kind: "page", page };
    const accountEnd = url.indexOf("/", tokenEnd + 1);
    const partEnd = accountEnd < 0 ? -1 : url.indexOf("/", accountEnd + 1);
    if (partEnd < 0) return forbidden;
    const account = url.slice(tokenEnd + 1, accountEnd);
    const part = url.slice(accountEnd + 1, partEnd);
    if (account === "" || part === "") return forbidden;
    const tally = this.#accounts.tally(account, part);
    const journal = this.#journals.find(account, part);
    const path = url.slice(partEnd);
    return { kind: "forward", path, tally, journal, dropsAuthorization: false };
  }
}

/** Takes the same time wherever two texts of one length differ. */
function isEqual(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let n = 0; n < a.length; n++) difference |= a.charCodeAt(n) ^ b.charCodeAt(n);
  return difference === 0;
}
