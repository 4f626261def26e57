/** What the balancer is held to, and what was measured of it. */
import type { Comparison, Figures } from "./slices.ts";

/** Of one shape of load. */
export interface ShapeFigures {
  readonly at: string;
  /** By how many connections were open. */
  readonly rounds: Readonly<Record<string, number>>;
  readonly by_connections: Record<
    string,
    { readonly comparison: Comparison; readonly targets: Record<string, Figures> }
  >;
}

/** A bar as it is kept. */
export interface CheckedBar {
  readonly text: string;
  readonly measured: number;
  readonly at_least?: number;
  readonly at_most?: number;
  /** Absent: there is nothing that it has to reach. */
  readonly met?: boolean;
}

interface Bar {
  readonly what: string;
  readonly shape: string;
  readonly connections: number;
  /** A key of the comparison; else memory in MB. */
  readonly key: string;
  readonly at_least?: number;
  readonly at_most?: number;
}

const ofNginx = "requests/s, % of nginx";
const ofHaproxy = "requests/s, % of haproxy";
const withJournal = "requests/s with every answer journalled, %";

const bars: readonly Bar[] = [
  rate("2/2", ofNginx, "percent_of_nginx", 38),
  rate("12/200", ofNginx, "percent_of_nginx", 54),
  rate("200/200", ofNginx, "percent_of_nginx", 50),
  rate("200/200", ofHaproxy, "percent_of_haproxy", 68),
  rate("2/2", withJournal, "percent_with_journal", 70),
  rate("12/200", withJournal, "percent_with_journal", 60),
  rate("200/200", withJournal, "percent_with_journal", 50),
  ...["nginx", "undici"].flatMap((other): Bar[] => [
    ...["2/2", "12/200", "200/200"].map((shape) => ({
      what: `CPU per request, % of ${other}`,
      shape,
      connections: 128,
      key: `cpu_percent_of_${other}`,
    })),
    ...["2/2", "12/200"].map((shape) => ({
      what: `p50 added, % of ${other}`,
      shape,
      connections: 1,
      key: `p50_added_percent_of_${other}`,
    })),
    {
      what: `p99, % of ${other}`,
      shape: "12/200",
      connections: 32,
      key: `p99_percent_of_${other}`,
    },
  ]),
  { what: "memory, MB", shape: "200/200", connections: 512, key: "rss_mb", at_most: 300 },
  { what: "memory, MB", shape: "51200/51200", connections: 8, key: "rss_mb", at_most: 600 },
];

function rate(shape: string, what: string, key: string, at_least: number): Bar {
  return { what, shape, connections: 128, key, at_least };
}

/** Those for which there are figures, in words and numbers. */
export function checkBars(shapes: Readonly<Record<string, ShapeFigures>>): CheckedBar[] {
  return bars.flatMap(({ what, shape, connections, key, ...limits }) => {
    const figures = shapes[shape]?.by_connections[connections];
    const measured =
      key === "rss_mb" ? figures?.targets["balancer"]?.rss_mb : figures?.comparison[key];
    if (measured === undefined) return [];
    const about = `${shape} KB, ${connections} connections: ${what}: ${measured}`;
    const { at_least, at_most } = limits;
    if (at_least === undefined && at_most === undefined) return [{ text: about, measured }];
    const met = measured >= (at_least ?? measured) && measured <= (at_most ?? measured);
    const bar = at_least === undefined ? `at most ${at_most}` : `at least ${at_least}`;
    const text = `${about} (${bar}${met ? "" : ": missed"})`;
    return [{ text, measured, ...limits, met }];
  });
}
