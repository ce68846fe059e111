// Every word on the page. Tone: what is, plainly; nothing is praised, missed or to be caught up with.

/** The language of these words. The page runs from right to left where it does. */
export const language = 'en';

const plural = new Intl.PluralRules(language);
const count = (n, one, other) => (plural.select(n) === 'one' ? one : other);

export const page = {
  title: 'Your family',
  loading: 'One moment…',
  skip: 'Skip to the numbers',
  family: 'All children',
  leave: 'Leave',
  leaveMeaning: 'Forget the way in on this device. Nicknames stay.',
  live: 'Up to date, and following along',
  connecting: 'Connecting…',
  notLive: (time) => (time ? `As of ${time}. Connecting again…` : 'Connecting again…'),
  zone: (zone) => `Days are counted in ${zone}.`,
  privacy: 'This page shows counts and times. What a child says or writes is never shown, and nicknames never leave this browser.',
};

export const states = {
  signIn: {
    title: 'Open this page from your app',
    body: 'Your family’s page opens from the parents’ area of the app that your children learn with. Each visit gets a key of its own, so there is no password to remember here.',
    developer: 'I have a token',
    field: 'Token',
    hint: 'For development: rivulet keys token --parent ID prints one.',
    open: 'Open',
    wrong: 'This is not a token. It has three parts with a full stop between them.',
  },
  expired: {
    title: 'This visit has ended',
    body: 'For your family’s safety a key to this page works only for a while. Open the page again from your app. Nothing is lost.',
  },
  missing: {
    title: 'There is no family here',
    body: 'The key is good, but no family belongs to it. If you have just registered, open the page again from your app in a minute.',
  },
  failed: {
    title: 'The numbers cannot be read just now',
    offline: 'This device cannot reach the service. Is it online? The page tries again by itself.',
    unavailable: 'The service is having a short rest. The page tries again by itself, and nothing is lost.',
  },
  noChildren: {
    title: 'No children yet',
    body: 'As soon as a child is added to your family in the app, it shows up here.',
  },
  noChild: 'This child is not in your family’s list.',
};

export const ages = {
  wonder_cubs: 'Wonder cubs',
  curious_explorers: 'Curious explorers',
  mind_masters: 'Mind masters',
};

export const child = {
  unnamed: (number) => `Child ${number}`,
  more: 'Look closer',
  moreAbout: (name) => `Look closer at ${name}’s days`,
  others: 'Children',
  today: 'Today',
  nothingToday: 'Nothing yet today.',
  last: (time) => `Last activity at ${time}`,
  week: 'This week',
  nothingWeek: 'Nothing yet this week.',
  weekBars: (name) => `Time on each day of ${name}’s week`,
  none: 'none',
  empty: (name) => `Nothing from ${name} yet`,
  emptyBody: 'The first numbers show up here by themselves, moments after the app is used.',
  spoken: (name, time, answers) => `${name}, today: ${time}, ${answers} ${count(answers, 'answer', 'answers')}`,
};

export const nickname = {
  change: (name) => `Change the nickname of ${name}`,
  give: (name) => `Give ${name} a nickname`,
  title: 'Nickname',
  field: 'What do you call this child?',
  hint: 'Rivulet does not know your child’s name. What you type stays in this browser and is sent nowhere.',
  save: 'Keep',
  cancel: 'Cancel',
};

export const why = {
  ask: (label) => `What does “${label}” mean?`,
  close: 'Close',
};

/** The numbers: what each is called, and what it means when asked. docs/rollups.md has the exact words. */
export const numbers = {
  time: ['Time', 'How long the app was in use, as it reports itself: open and on screen. More is not better in itself.'],
  days: ['Days active', 'Days on which the child did something: took part in an activity, wrote a message or spoke. Only opening the app does not count.'],
  answers: ['Answers', 'How many questions the child answered, right or not.'],
  accuracy: ['Right answers', 'Of the questions answered, how many were right. Low is normal for something new, and always high may mean that it is too easy.'],
  hints: ['Hints', 'How often the child asked for help in an activity. Asking is a good thing to do.'],
  completions: ['Finished', 'Activities that were seen through to their end.'],
  conversations: ['Conversations', 'Conversations with the learning assistant that began.'],
  messages: ['Messages', 'Messages that the child sent to the assistant. What is in them is neither kept nor shown.'],
  questions: ['Questions asked', 'Messages in which the child asked something of its own.'],
  depth: ['Depth', 'The deepest point that a conversation came to. Each step means that the child followed up on the one before: “why?”, “and then?”. From 5 on it has stayed with a thought for long.'],
  aha: ['Aha moments', 'Messages in which the app saw that something had just become clear.'],
  filtered: ['Held back', 'Messages that the app’s safety filter stopped, from either side.'],
  spoken: ['Words spoken', 'Words that the child said, counted on the device itself. Sound never leaves it.'],
  heard: ['Words heard', 'Words that grown-ups around said to the child, counted on the device itself. Sound never leaves it.'],
  turns: ['Back and forth', 'How often child and grown-up took turns: one speaks, and the other replies.'],
  newWords: ['New words', 'Words that the app had not heard from this child before.'],
  xp: ['Points', 'Points that the app gave in activities.'],
  stars: ['Stars', 'Stars that the app gave in activities.'],
  badges: ['Badges', 'Badges that the app gave on days of this stretch of time, with the latest such day.'],
  topics: ['Topics', 'What activities and conversations were about, over all time, the latest first.'],
  about: ['About', 'What activities and conversations were about today, as the app names it.'],
  known: ['Sureness', 'From 0 to 100, by answers on this topic. It takes many right answers to come near 100, and one is 67.'],
  subjects: ['Subjects', 'Answers, and time on task, by the subject that the app names. “General” is where it names none.'],
  taskTime: ['Time on task', 'How long activities of this subject took, as they report it. Together they can be less than the time in the app.'],
  streak: ['Days in a row', 'Days on which the child did something, one after the other. Today is not missed before it is over.'],
  longest: ['Longest so far', 'The most days in a row that there have been.'],
  freezes: ['Freezes', 'A freeze keeps the row going over a day off. Every seven days bring one, and two are held at most. They are used by themselves.'],
};

export const streak = {
  title: 'Days in a row',
  days: (n) => count(n, 'day', 'days'),
  none: 'No row is running just now. The next active day begins one, and freezes are kept.',
  since: (day) => `Since ${day}`,
  freezes: (n) => `${n} of 2`,
  holding: (n) => count(n, 'One of them is keeping the place of a day off.', `${n} of them are keeping the place of days off.`),
  earlier: 'Earlier month',
  later: 'Later month',
  active: 'active',
  bridged: 'kept by a freeze',
  today: 'today',
  calendar: (month) => `Active days in ${month}`,
};

export const week = {
  title: 'This week and last week',
  measure: 'Number',
  now: 'This week',
  then: 'Last week',
  upTo: (day) => `until ${day}`,
  whole: 'whole week',
  note: 'Weeks differ, and that is as it should be.',
};

export const periods = {
  title: 'Looking back',
  choose: 'How far',
  month: '4 weeks',
  quarter: '3 months',
  year: '1 year',
  all: 'All',
  earlier: 'Earlier',
  later: 'Later',
  nothing: 'Nothing in this stretch of time.',
  loading: 'Fetching these days…',
  cut: 'The app tells so much of these days that not all of them are added up here. A shorter stretch is whole.',
  by: { day: 'by day', week: 'by week', month: 'by month' },
};

export const charts = {
  table: 'Show as a table',
  unit: { day: 'Day', week: 'Week', month: 'Month' },
  summary: (label, total, most, when) => `${label}: ${total} in all, the most ${most}, ${when}.`,
  peak: (label, most, when) => `${label}: the most ${most}, ${when}.`,
  time: 'Time in the app',
  answers: 'Answers',
  right: 'of them right',
  all: 'all answers',
  questions: 'Questions asked',
  depth: 'Deepest conversation',
  words: 'Words spoken and heard',
};

export const subjects = {
  title: 'By subject',
  subject: 'Subject',
  of: (right, all) => `${right} of ${all}`,
  nothing: 'No answers in this stretch of time.',
  part: (day) => `The app names so many subjects that only ${day ? `the time until ${day} is` : 'some of them are'} added up here.`,
};

export const topics = {
  title: 'Topics',
  topic: 'Topic',
  last: 'Last met',
  next: 'Show more topics',
  some: (n, all) => `The ${n} latest of ${all} topics are here.`,
  many: 'The app names more than 2,000 topics, too many to tell the latest, so they are listed by name.',
  nothing: 'No topics yet.',
};

/** What is too long to be shown as it is. */
export const lists = {
  all: (n) => `Show all ${n}`,
  first: (n, all) => `Show ${n} of ${all}`,
  fewer: 'Show fewer',
  some: (n) => `Show the first ${n}`,
  left: (n) => `${n} more are not listed.`,
  others: (n, written) => count(n, 'and one more', `and ${written} more`),
  orMore: (n) => `and more than ${n} others`,
};

export const sections = {
  conversations: 'Conversations',
  words: 'Words',
  badges: 'Badges',
  moreBadges: 'Of a day with more than 256 badges the first 256 by name are listed.',
  noBadges: 'No badges in this stretch of time.',
  noWords: 'No speech in this stretch of time. It is counted only where a family has allowed it.',
  noConversations: 'No conversations in this stretch of time.',
};
