/** The town of Tollbridge, made up by us: everything that its people, its school and its stories know. */

export interface Person {
  readonly name: string;
  readonly trade: string;
  readonly home: string;
}

const names =
  `Anna Bert Clara David Edith Frank Greta Harold Ivy Jacob Kate Luke Mabel Ned Olive Peter Queenie Ralph Sarah Tom
Ursula Victor Wanda Xavier Yvonne Zack Agnes Bruno Cecil Dora Ernest Flora Gilbert Hilda Isaac Judith Karl Lotte Magnus Nora
Oscar Paula Quentin Rosa Simon Thea Ulric Vera Walter Edgar Betsy Conrad Daisy Emil Fanny Gus Heidi Igor Joan Kurt`.split(
    /\s+/,
  );

export const trades =
  `baker smith miller tailor weaver potter farmer fisher carpenter teacher doctor brewer shepherd mason
printer cobbler gardener barber painter clerk`.split(/\s+/);

export const homes = [
  ...["Mill Lane", "Hill Farm", "North Gate", "Castle Street", "River Cottage", "Market Square"],
  ...["Duck Pond", "Orchard Row", "Ferry House", "Church Yard", "Bell Tower", "Long Barn"],
];

/** Sixty people; trades and homes go round at different paces, so that neighbours differ in both. */
export const people: readonly Person[] = names.map((name, index) => ({
  name,
  trade: trades[(index * 7 + Math.floor(index / 20)) % trades.length] as string,
  home: homes[(index * 5 + Math.floor(index / 12)) % homes.length] as string,
}));

/** A word and its opposite. */
export const opposites: readonly (readonly [string, string])[] =
  `hot cold,big small,up down,day night,black white,old young,wet dry,
full empty,hard soft,fast slow,good bad,open shut,high low,long short,early late,rich poor,sweet sour,near far,left right,thick thin,
true false,strong weak,light dark,loud quiet,happy sad,clean dirty,heavy light,wide narrow,deep shallow,front back,first last,
love hate,begin end,buy sell,give take,push pull,win lose,laugh cry,ask answer,rise fall,east west,north south,summer winter,
friend enemy,king queen,sharp blunt,rough smooth,tame wild,brave afraid,warm cool,wise foolish,kind cruel`
    .split(/,\s*/)
    .map((pair) => pair.split(" ") as [string, string]);

/** An animal and what it says. */
export const sounds: readonly (readonly [string, string])[] =
  `cow moo,dog woof,cat meow,duck quack,sheep baa,pig oink,horse neigh,
owl hoot,crow caw,hen cluck,rooster cockadoodle,frog croak,bee buzz,lion roar,mouse squeak,snake hiss,wolf howl,bear growl,
donkey heehaw,goose honk,turkey gobble,pigeon coo,cuckoo cuckoo,cricket chirp,goat bleat,monkey chatter,elephant trumpet,
parrot hello,raven cronk,seal bark,fox yip,robin tweet,kitten mew,lamb maa,chick peep,hound bay,gull mine,swan whoop,
hornet zoom,bull bellow`
    .split(/,\s*/)
    .map((pair) => pair.split(" ") as [string, string]);

/** What people in Tollbridge are like: "as busy as a" and "bee". */
export const similes: readonly (readonly [string, string])[] =
  `busy as a|bee;strong as an|ox;quiet as a|mouse;proud as a|peacock;
sly as a|fox;blind as a|bat;free as a|bird;happy as a|lark;stubborn as a|mule;wise as an|owl;brave as a|lion;gentle as a|lamb;
slow as a|snail;quick as a|rabbit;cold as|ice;white as|snow;black as|coal;light as a|feather;heavy as|lead;sharp as a|razor;
flat as a|pancake;dry as a|bone;clear as|crystal;good as|gold;hard as|nails;old as the|hills;sweet as|honey;bright as a|button;
cool as a|cucumber;fit as a|fiddle;red as a|beetroot;green as|grass;pretty as a|picture;thin as a|rake;tall as a|tower;
warm as|toast;steady as a|rock;hungry as a|wolf;poor as a|churchmouse;regular as|clockwork;fresh as a|daisy;silent as the|grave;
plain as|day;smooth as|silk;pale as a|ghost;straight as an|arrow;sour as|vinegar;snug as a|bug`
    .split(/;\s*/)
    .map((pair) => pair.split("|") as [string, string]);

/** One and many of those that walk about the stories. */
export const animals: readonly (readonly [string, string])[] =
  `dog dogs,cat cats,cow cows,duck ducks,hen hens,horse horses,goat goats,
pig pigs,owl owls,crow crows,frog frogs,lamb lambs,rabbit rabbits,robin robins,boy boys,girl girls,child children,mouse mice,
goose geese,man men,woman women,sailor sailors,traveller travellers,pony ponies`
    .split(/,\s*/)
    .map((pair) => pair.split(" ") as [string, string]);

/** What they do: verbs whose third person ends in a plain s. */
export const doings =
  `sleep run sing play wait eat drink rest walk look hide jump swim stand dance dream listen work wander shelter`.split(
    " ",
  );

export const places = [
  ...["by the river", "in the meadow", "under the old oak", "behind the mill", "near the bridge"],
  ...["in the yard", "on the hill", "at the edge of the wood", "beside the well", "along the lane"],
  ...["in the morning sun", "outside the inn", "among the apple trees", "before the storm"],
];

/** A working day, by trade: what is done first, and what comes of it. */
export const work: Readonly<Record<string, readonly string[]>> = {
  baker: ["lit the oven and baked forty loaves of bread", "rolled the dough and made a plum cake"],
  smith: ["blew on the fire and hammered the iron", "made four new shoes for the brown horse"],
  miller: ["opened the sluice and ground the corn", "carried the flour down to the cart"],
  tailor: ["threaded the needle and mended a coat", "cut the blue cloth for a wedding dress"],
  weaver: ["sat down at the loom and wove the wool", "dyed the yarn in the copper pot"],
  potter: ["turned the wheel and shaped a jug", "fired the kiln and glazed the bowls"],
  farmer: ["hitched the plough and turned the field", "milked the cows before the sun was up"],
  fisher: ["rowed out at dawn and cast the nets", "brought home a basket of silver fish"],
  carpenter: ["planed the boards and built a table", "sawed the oak and hung the new door"],
  teacher: ["rang the bell and opened the school", "wrote the sums upon the slate"],
  doctor: ["packed the black bag and visited the sick", "gave the child a spoon of bitter syrup"],
  brewer: [
    "stirred the barley and filled the barrels",
    "tasted the new beer and shook a wise head",
  ],
  shepherd: ["counted the flock and climbed the hill", "found the lost lamb among the thorns"],
  mason: ["mixed the lime and mended the wall", "squared the stone for the church tower"],
  printer: ["set the type and inked the press", "printed a notice about the summer fair"],
  cobbler: ["cut the leather and stitched the boots", "put new heels on the dancing shoes"],
  gardener: ["dug the beds and planted the beans", "pruned the roses and swept the path"],
  barber: ["stropped the razor and trimmed a beard", "heated the water and told the news"],
  painter: [
    "ground the colours and painted the sign",
    "climbed the ladder and whitened the front of the inn",
  ],
  clerk: ["sharpened the pen and copied the letters", "added up the toll and locked the chest"],
};

export const weather = [
  ...[
    "The rain came down over Tollbridge.",
    "It was a bright and windy morning.",
    "Fog lay upon the river.",
  ],
  ...[
    "The first snow had fallen in the night.",
    "The sun rose red behind the hills.",
    "A warm wind blew from the south.",
  ],
  ...[
    "The evening was still and clear.",
    "Thunder rolled far away.",
    "Frost had silvered every roof.",
  ],
];

/** How neighbours speak to one another. */
export const sayings = [
  ...[
    "Good morning, neighbour, and how is the family?",
    "There will be rain before the bells ring.",
  ],
  ...[
    "A penny saved is a penny earned.",
    "Many hands make light work.",
    "You cannot hurry the bread.",
  ],
  ...["The bridge has stood for two hundred years.", "Come in and sit down by the fire."],
  ...["I have not seen such apples since I was a child.", "Who pays the toll tonight?"],
  ...[
    "A stitch in time saves nine.",
    "Let us speak of it tomorrow.",
    "It is never too late to learn.",
  ],
];
