package main

import "github.com/nexus-protocol/nexus/domain/credits"

// seedKind is one kind of agent, with what it is asked.
type seedKind struct {
	names                      []string
	category, skill, title     string
	does, more, result, schema string
	tags                       []string
	price                      credits.Amount
	jobs                       []seedJob
}

type seedJob struct{ title, text, input, answer string }

var seedPeople = []string{"grace", "edsger", "barbara", "donald", "radia", "ken", "margaret", "alan", "frances", "john", "katherine"}

var seedBeginnings = []string{
	"I have read it and begin now.", "Working on it.", "Taking this up. First results in a moment.", "I have what I need.", "Started; this will not take long.",
}

var seedFailures = []string{
	"The source could not be reached.", "The document is longer than I can take in at once.", "Three attempts came to nothing; I give up.",
	"The format of the input is not one that I know.", "My model's provider answered with an error.",
}

var seedComments = [5][]string{
	{"Not usable.", "Wrong from the first line."},
	{"Needed a lot of mending.", "Half of it was missing."},
	{"All right, but slow.", "Usable after some editing."},
	{"Good work.", "Solid, one small slip.", "Did what it promised."},
	{"Excellent, nothing to change.", "Exactly what I needed.", "Fast and careful.", "Better than I would have done it."},
}

var seedKinds = []seedKind{
	{
		names: []string{"Lingua", "Babel Desk", "Interlinear", "Tongue & Quill", "Polyglot"}, category: "translation", skill: "translate", title: "Translate",
		does: "Translates texts between 30 languages and keeps their tone.", more: "Knows legal and technical vocabulary, and asks when a term has two meanings.",
		result: "Translation", tags: []string{"translation", "text", "languages"}, price: credits.Whole(4),
		schema: `{"type":"object","required":["text","to"],"properties":{"text":{"type":"string","title":"Text","description":"The text to translate."},"to":{"type":"string","title":"Into","enum":["English","German","French","Spanish","Japanese"],"default":"English"},"formal":{"type":"boolean","title":"Formal address"}}}`,
		jobs: []seedJob{
			{"Translate the terms of delivery into German", "The customer needs them by tomorrow.", `{"text":"Goods are delivered within five working days of the order being confirmed.","to":"German","formal":true}`, "Die Lieferung erfolgt innerhalb von fünf Werktagen nach Bestätigung der Bestellung."},
			{"French version of the release notes", "Keep the product's names as they are.", `{"text":"This release makes searches twice as fast.","to":"French"}`, "Cette version rend les recherches deux fois plus rapides."},
			{"Welcome letter in Spanish", "", `{"text":"We are glad to have you with us.","to":"Spanish"}`, "Nos alegra tenerle con nosotros."},
		},
	},
	{
		names: []string{"Gist", "Brief & Co", "Abstractor", "Short Version", "Executive Summary"}, category: "summaries", skill: "summarize", title: "Summarize",
		does: "Reads long documents and says what is in them in a page.", more: "Names its sources by page, and says what it left out.",
		result: "Summary", tags: []string{"text", "summaries", "research"}, price: credits.Whole(3),
		schema: `{"type":"object","required":["text"],"properties":{"text":{"type":"string","title":"Document text"},"sentences":{"type":"integer","title":"Sentences","minimum":1,"maximum":30,"default":5},"topics":{"type":"array","items":{"type":"string"},"title":"Topics to look for"}}}`,
		jobs: []seedJob{
			{"Summarize the minutes of the October meeting", "Decisions first, then who does what.", `{"text":"The board met on 14 October. It was decided to open an office in Lyon …","sentences":4}`, "The board decided to open an office in Lyon in March. Marie prepares the lease, Tom hires two people. The budget was raised by 8 %. The next meeting is on 11 November."},
			{"What does the new directive ask of us?", "", `{"text":"Directive 2026/114 obliges providers of digital services to …","sentences":6}`, "Providers must answer complaints within ten days, keep records for two years, and name a contact in every member state. Small firms are exempt until 2028."},
		},
	},
	{
		names: []string{"Canvas", "Inkling", "Lightbox", "Plein Air", "Sketchbook"}, category: "images", skill: "paint", title: "Draw a picture",
		does: "Makes pictures from a description: illustrations, icons, headers.", more: "Delivers PNG in the size that you ask for.",
		result: "Picture", tags: []string{"images", "design"}, price: credits.Whole(9),
		schema: `{"type":"object","required":["prompt"],"properties":{"prompt":{"type":"string","title":"What is to be seen?"},"style":{"type":"string","title":"Style","enum":["flat","watercolour","photo","ink"]},"width":{"type":"integer","title":"Width","minimum":64,"maximum":4096,"default":1024}}}`,
		jobs: []seedJob{
			{"Header picture for the autumn newsletter", "Calm, with much sky.", `{"prompt":"hills at sunrise, wide sky","style":"flat","width":1024}`, "Here is the header. The sky leaves room for a headline on the left."},
			{"Illustration for the article on tides", "", `{"prompt":"a coast at low tide, evening light","style":"watercolour"}`, "Painted in three layers; the light comes from the right."},
		},
	},
	{
		names: []string{"Tabula", "Ledger Lens", "Pivot", "Clean Sheet", "Numbers Room"}, category: "data", skill: "analyze", title: "Analyze a table",
		does: "Cleans tables, finds outliers and trends, and explains them.", more: "Takes CSV and JSON of up to 50 000 rows, gives back tables and a summary.",
		result: "Report", tags: []string{"data", "csv", "analysis"}, price: credits.Whole(6),
		schema: `{"type":"object","required":["csv"],"properties":{"csv":{"type":"string","title":"Table content (CSV)"},"question":{"type":"string","title":"Question"},"limit":{"type":"number","title":"Outliers beyond, in standard deviations","minimum":1,"maximum":6,"default":3}}}`,
		jobs: []seedJob{
			{"Which months were out of line?", "Compare with the year before.", `{"csv":"month,orders\n2026-08,1204\n2026-09,1377","question":"Which months were out of line?"}`, "None was: orders grew by 9.7 % a month, within what the year before would lead one to expect."},
			{"Clean up the customer export", "", `{"csv":"name,mail\nA,a@example.com","question":"Remove duplicates"}`, "412 rows came in, 397 are left: 11 were duplicates, 4 had no e-mail. The cleaned table is attached."},
		},
	},
	{
		names: []string{"Second Pair of Eyes", "Lintwright", "Review Board", "Diffident", "Patch Notes"}, category: "code", skill: "review", title: "Review a change",
		does: "Reviews changes to Go, Python and TypeScript code.", more: "Looks for bugs first and style last, and says how sure it is.",
		result: "Review", tags: []string{"code", "review", "go", "python"}, price: credits.Whole(8),
		schema: `{"type":"object","required":["diff"],"properties":{"diff":{"type":"string","title":"Code change (diff)"},"language":{"type":"string","title":"Language","enum":["Go","Python","TypeScript"]},"strict":{"type":"boolean","title":"Look at style too"}}}`,
		jobs: []seedJob{
			{"Review the retry logic", "It gave up too early in production.", `{"diff":"+ for i := 0; i < 3; i++ {","language":"Go"}`, "One finding: the error of Close is dropped in handler.go, line 48, so a failed flush looks like a success. The loop itself is right."},
			{"Is this migration safe to run twice?", "", `{"diff":"+ CREATE INDEX orders_by_day ON orders (day);","language":"Python"}`, "Not as it stands: the second run fails. Use CREATE INDEX IF NOT EXISTS."},
		},
	},
	{
		names: []string{"Field Notes", "Footnote", "Deep Stack", "Almanac", "Cross Reference"}, category: "research", skill: "research", title: "Look something up",
		does: "Searches public sources and answers with references.", more: "Weighs sources against each other and says where they disagree.",
		result: "Answer", tags: []string{"research", "web", "text"}, price: credits.Whole(5),
		schema: `{"type":"object","required":["question"],"properties":{"question":{"type":"string","title":"Question"},"depth":{"type":"string","title":"How deep","enum":["quick","thorough"],"default":"quick"},"sources":{"type":"array","items":{"type":"string"},"title":"Only these sites"}}}`,
		jobs: []seedJob{
			{"How large is the market for heat pumps in France?", "Latest figures, with sources.", `{"question":"Sales of heat pumps in France by year","depth":"thorough"}`, "About 306 000 air-to-water units were sold last year, 6 % more than the year before (two trade bodies agree; a third counts hybrids too)."},
			{"Compare three vendors of signature services", "", `{"question":"Compare vendors of electronic signatures","depth":"quick"}`, "All three are qualified under eIDAS. The second is the cheapest below 200 signatures a month, the third has the only API without a yearly fee."},
		},
	},
	{
		names: []string{"Inbox Zero", "Courteous", "Reply Desk", "Switchboard", "Postmark"}, category: "support", skill: "answer", title: "Draft an answer",
		does: "Drafts answers to customers' messages in your tone of voice.", more: "Never sends anything itself.",
		result: "Draft", tags: []string{"support", "text", "email"}, price: credits.Whole(2),
		schema: `{"type":"object","required":["message"],"properties":{"message":{"type":"string","title":"Customer's message"},"tone":{"type":"string","title":"Tone","enum":["friendly","formal","short"],"default":"friendly"}}}`,
		jobs: []seedJob{
			{"Answer the complaint about the late parcel", "Offer a refund of the postage.", `{"message":"My parcel is a week late and nobody answers the phone!","tone":"friendly"}`, "Dear Ms Okafor, I am sorry that your parcel is late and that nobody picked up. It is at the depot in Lille and comes on Thursday; we refund the postage today."},
			{"Reply to the request for an invoice", "", `{"message":"Could you send me the invoice again?","tone":"short"}`, "Of course: the invoice is attached. Do tell us if the address has to change."},
		},
	},
	{
		names: []string{"Earshot", "Verbatim", "Stenographer", "Playback", "Minutes"}, category: "audio", skill: "transcribe", title: "Transcribe",
		does: "Turns recordings into text with speakers and times.", more: "Up to two hours, in twelve languages.",
		result: "Transcript", tags: []string{"audio", "text", "transcription"}, price: credits.Whole(7),
		schema: `{"type":"object","required":["url"],"properties":{"url":{"type":"string","title":"Address of the recording","format":"uri"},"speakers":{"type":"integer","title":"Speakers","minimum":1,"maximum":12}}}`,
		jobs: []seedJob{
			{"Transcribe the interview with the mayor", "Two speakers.", `{"url":"https://media.example/mayor.mp3","speakers":2}`, "00:00 A: Thank you for taking the time.\n00:03 B: Gladly. Where do we begin?\n00:06 A: With the harbour."},
			{"Transcript of Tuesday's call", "", `{"url":"https://media.example/call-tuesday.mp3","speakers":4}`, "00:00 Chair: Good morning, everybody. Shall we begin with the open points?"},
		},
	},
}

type seedFlow struct {
	name, description string
	steps             []seedStep
}

type seedStep struct {
	name, category string
	after          []int
}

var seedFlows = []seedFlow{
	{"Market report", "Looks a market up from three sides, puts it together, and has it translated.", []seedStep{
		{"Look up figures", "research", nil}, {"Look up rivals", "research", nil}, {"Analyze figures", "data", []int{0}}, {"Put together", "summaries", []int{1, 2}}, {"Into German", "translation", []int{3}}, {"Header picture", "images", []int{3}},
	}},
	{"Newsletter", "From the notes of the week to a newsletter with a picture.", []seedStep{
		{"Summarize notes", "summaries", nil}, {"Draw the header", "images", nil}, {"Write it", "support", []int{0}}, {"Translate", "translation", []int{2, 1}},
	}},
	{"Nightly code review", "Reviews what was merged, and writes it up.", []seedStep{
		{"Review backend", "code", nil}, {"Review frontend", "code", nil}, {"Write it up", "summaries", []int{0, 1}},
	}},
	{"Interview to article", "Transcribes, shortens, illustrates.", []seedStep{
		{"Transcribe", "audio", nil}, {"Shorten", "summaries", []int{0}}, {"Check facts", "research", []int{1}}, {"Illustrate", "images", []int{1}}, {"Put together", "support", []int{2, 3}},
	}},
	{"Complaints of the week", "Sorts complaints and drafts answers.", []seedStep{
		{"Sort", "data", nil}, {"Draft answers", "support", []int{0}}, {"Translate", "translation", []int{1}},
	}},
	{"Price watch", "Compares prices and tells what has changed.", []seedStep{
		{"Collect prices", "research", nil}, {"Compare", "data", []int{0}}, {"Tell", "summaries", []int{1}},
	}},
	{"Launch kit", "All that a launch needs, in three languages.", []seedStep{
		{"Research", "research", nil}, {"Draft", "support", []int{0}}, {"Picture", "images", []int{0}}, {"German", "translation", []int{1}}, {"French", "translation", []int{1}}, {"Spanish", "translation", []int{1}}, {"Check", "code", []int{3, 4, 5, 2}},
	}},
}
